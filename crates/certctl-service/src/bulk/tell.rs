//! Tells issuers of revocations that were entered together, after they are committed.

use std::collections::HashSet;

use certctl_domain::id::{IssuerId, RevocationId};
use certctl_repository::{
    bulk::{self, Untold},
    transaction,
};
use certctl_telemetry::ErrorChain;
use futures_util::{StreamExt as _, stream};

use crate::{Error, Services};

/// Revocations that are read and noted together.
const STEP: i64 = 500;
/// Issuers' answers that are waited for at a time.
const AT_A_TIME: usize = 8;

impl Services {
    /// Begins to tell the issuers of a batch; the caller does not wait. The database is the truth already, so what fails is logged,
    /// and `issuer_notified` stays false.
    pub(super) fn tell_issuers_in_background(&self, batch: String) {
        let services = self.clone();
        tokio::spawn(async move {
            match services.tell_issuers_of(&batch).await {
                Ok((told, 0)) => tracing::info!(batch, told, "issuers were told of revocations"),
                Ok((told, failed)) => {
                    tracing::warn!(
                        batch,
                        told,
                        failed,
                        "issuers could not be told of some revocations"
                    );
                }
                Err(error) => {
                    tracing::warn!(batch, error = %ErrorChain(&error), "telling issuers of revocations ended early");
                }
            }
        });
    }

    /// Tells the issuers of a batch, a bounded step at a time; returns how many revocations they were told of, and of how many not.
    async fn tell_issuers_of(&self, batch: &str) -> Result<(usize, usize), Error> {
        let (mut told, mut failed) = (0, 0);
        // One that cannot be reached is not asked again for every one of its serials.
        let mut unreachable: HashSet<IssuerId> = HashSet::new();
        let mut after: Option<RevocationId> = None;
        loop {
            let step = bulk::untold(&mut self.read().await?, batch, after.as_ref(), STEP).await?;
            let Some(last) = step.last() else {
                return Ok((told, failed));
            };
            after = Some(last.id.clone());
            let all = step.len();
            self.find_unreachable(&step, &mut unreachable).await;
            let done: Vec<RevocationId> = stream::iter(step)
                .filter(|one| std::future::ready(!unreachable.contains(&one.issuer_id)))
                .map(|one| self.told(one))
                .buffer_unordered(AT_A_TIME)
                .filter_map(std::future::ready)
                .collect()
                .await;
            told += done.len();
            failed += all - done.len();
            let noted: Result<(), Error> = transaction!(self.db, "note revocations told", conn => {
                bulk::set_told(conn, &done).await?;
                Ok::<_, Error>(())
            });
            noted?;
        }
    }

    async fn find_unreachable(&self, step: &[Untold], unreachable: &mut HashSet<IssuerId>) {
        let issuers: HashSet<&IssuerId> = step.iter().map(|one| &one.issuer_id).collect();
        for issuer in issuers {
            if unreachable.contains(issuer) {
                continue;
            }
            if let Err(error) = self.connected_issuer(issuer).await {
                tracing::warn!(issuer.id = %issuer, error = %ErrorChain(&error), "the issuer cannot be told of revocations");
                unreachable.insert(issuer.clone());
            }
        }
    }

    /// The id of a revocation when its issuer was told.
    async fn told(&self, one: Untold) -> Option<RevocationId> {
        let connected = self.connected_issuer(&one.issuer_id).await.ok()?;
        match connected
            .issuer
            .revoke(&one.serial_number, one.reason)
            .await
        {
            Ok(()) => Some(one.id),
            Err(error) => {
                tracing::debug!(issuer.id = %one.issuer_id, serial = %one.serial_number, error = %ErrorChain(&error),
                    "the issuer could not be told of a revocation");
                None
            }
        }
    }
}
