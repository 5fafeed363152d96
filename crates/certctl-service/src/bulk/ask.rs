//! Asking a second person for all jobs of one renewal of many.

use certctl_domain::{
    access::{Actor, ActorType},
    approval::BYPASS,
    id::ProfileId,
    time::Timestamp,
};
use certctl_repository::{
    Conn,
    bulk::asked::{self, By},
    renewal_policies,
};

use crate::{Error, Services, metrics::count_decisions};

impl Services {
    /// Completes the requests of a batch: how grave each is, an audit row for each, and where the gate is open that they are
    /// approved. How many of each profile were approved so; to be counted after the commit by [`count_approved`].
    pub(super) async fn ask_for_batch(
        &self,
        conn: &mut Conn,
        actor: &Actor,
        batch: &str,
        now: Timestamp,
    ) -> Result<Vec<(ProfileId, u64)>, Error> {
        let mut policies = Vec::new();
        for id in asked::policies(conn, batch).await? {
            policies.push(renewal_policies::find(conn, &id).await?);
        }
        asked::set_tiers(conn, batch, &policies, now).await?;
        let by = By {
            id: actor.id(),
            kind: actor.actor_type().as_str(),
        };
        asked::record(conn, batch, by, "approval_requested", now).await?;
        if !self.config.approval_bypass {
            return Ok(Vec::new());
        }
        let approved = asked::bypass(conn, batch, now).await?;
        let by = By {
            id: BYPASS,
            kind: ActorType::System.as_str(),
        };
        asked::record(conn, batch, by, "approval_bypassed", now).await?;
        Ok(approved)
    }
}

/// Counts requests that an open gate approved.
pub(super) fn count_approved(approved: &[(ProfileId, u64)]) {
    for (profile, total) in approved {
        count_decisions("bypassed", profile, *total);
    }
}
