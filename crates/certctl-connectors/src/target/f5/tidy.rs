//! Going back, and clearing away what nothing names any more.

use std::{collections::BTreeSet, time::Duration};

use certctl_domain::time::Timestamp;
use certctl_telemetry::ErrorChain;

use super::{
    api::{Kind, References},
    error::Error,
    session::Session,
};

/// How old an object of a deployment that was cut short is before another one removes it: a younger one may belong to a
/// deployment that is under way for another profile.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

impl Session<'_> {
    /// Gives the profile back what it named, and looks whether it does.
    pub(super) async fn restore(
        &mut self,
        profile: &str,
        before: &References,
    ) -> Result<(), Error> {
        // A commit that failed left it as it was, and what it named before certctl may not be for us to write.
        if self.shows(profile, before).await.is_ok() {
            return Ok(());
        }
        self.patch(profile, before, None).await?;
        self.shows(profile, before).await
    }

    /// Whether the profile names exactly this.
    pub(super) async fn shows(
        &mut self,
        profile: &str,
        expected: &References,
    ) -> Result<(), Error> {
        let found = self.profile(profile).await?.references();
        let pairs = [
            (&expected.cert, found.cert),
            (&expected.key, found.key),
            (&expected.chain, found.chain),
        ];
        for (expected, found) in pairs {
            if *expected != found {
                let or_none =
                    |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
                return Err(Error::NotShown {
                    expected: or_none(expected),
                    found: or_none(&found),
                });
            }
        }
        Ok(())
    }

    /// Gives a transaction up; one that is not there any more is as good.
    pub(super) async fn give_up(&mut self, transaction: u64) {
        if let Err(problem) = self.discard(transaction).await {
            tracing::debug!(problem = %ErrorChain(&problem), "the transaction ends by itself");
        }
    }

    /// Removes objects, as far as the appliance lets them go.
    pub(super) async fn remove(&mut self, objects: &References) {
        for (kind, name) in objects.files() {
            if let Err(problem) = self.delete(kind, name).await {
                tracing::warn!(object = name, problem = %ErrorChain(&problem), "an object stays on the appliance");
            }
        }
    }

    /// Removes what the profile named before, and what deployments left that were cut short, unless a profile names it
    /// (targets §3.13). That it cannot be cleared away does not make a good deployment a bad one.
    pub(super) async fn sweep(
        &mut self,
        partition: &str,
        before: &References,
        after: &References,
        now: Timestamp,
    ) {
        match self.unused(partition, before, after, now).await {
            Ok(unused) => {
                for (kind, name) in unused {
                    if let Err(problem) = self.delete(kind, &name).await {
                        tracing::warn!(object = name, problem = %ErrorChain(&problem), "an old object stays on the appliance");
                    }
                }
            }
            Err(problem) => {
                tracing::warn!(problem = %ErrorChain(&problem), "old objects stay on the appliance");
            }
        }
    }

    async fn unused(
        &mut self,
        partition: &str,
        before: &References,
        after: &References,
        now: Timestamp,
    ) -> Result<Vec<(Kind, String)>, Error> {
        let in_use: BTreeSet<String> = self.in_use().await?.into_iter().collect();
        let replaced: BTreeSet<&str> = before.files().map(|(_, name)| name).collect();
        let kept: BTreeSet<&str> = after.files().map(|(_, name)| name).collect();
        let mut unused = Vec::new();
        for kind in [Kind::Certificate, Kind::Key] {
            let names = self.files(kind).await?.into_iter().filter(|name| {
                made_at(partition, name).is_some_and(|made| {
                    let name = name.as_str();
                    let is_old = replaced.contains(name) || now.since(made) >= LEFTOVER_AGE;
                    is_old && !in_use.contains(name) && !kept.contains(name)
                })
            });
            unused.extend(names.map(|name| (kind, name)));
        }
        Ok(unused)
    }
}

/// When an object of ours was made, by its name; nothing for everybody else's.
fn made_at(partition: &str, full_path: &str) -> Option<Timestamp> {
    let name = full_path
        .strip_prefix('/')?
        .strip_prefix(partition)?
        .strip_prefix("/certctl-")?;
    let (part, nanos) = name.split_once('-')?;
    if !["cert", "key", "chain"].contains(&part) || nanos.len() != 19 {
        return None;
    }
    let nanos: i64 = nanos.parse().ok()?;
    Some(Timestamp::from_micros(nanos / 1000))
}

#[cfg(test)]
mod tests {
    use certctl_domain::time::Timestamp;

    use super::made_at;

    #[test]
    fn only_our_own_names_of_this_partition_are_ours() {
        let made = Some(Timestamp::from_micros(1_800_000_000_000_000));
        for part in ["cert", "key", "chain"] {
            assert_eq!(
                made_at(
                    "Common",
                    &format!("/Common/certctl-{part}-1800000000000000007")
                ),
                made
            );
        }
        for other in [
            "/Common/default.crt",
            "/Common/certctl-cert-of-mine",
            "/Common/certctl-cert-18",
            "/Common/certctl-bundle-1800000000000000007",
            "/Common/certctl-cert-+800000000000000007x",
            "/Edge/certctl-cert-1800000000000000007",
            "/Commons/certctl-cert-1800000000000000007",
        ] {
            assert_eq!(made_at("Common", other), None, "{other}");
        }
    }
}
