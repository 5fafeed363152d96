//! Asking the whole fleet, because a rule has changed.
//!
//! A page of certificates is one transaction, which also notes how far it came: whoever is stopped, or dies, goes on there, and of
//! several replicas each page is asked by one. A rule that changes meanwhile begins it anew.

use certctl_domain::access::Actor;
use certctl_repository::{policy_review, transaction};
use tokio_util::sync::CancellationToken;

use super::{Telling, ask};
use crate::{Error, Services};

/// Certificates of one transaction, at the most.
const PAGE: i64 = 1000;

/// What a review did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Review {
    /// Certificates that were asked.
    pub asked: usize,
    /// Violations that are new.
    pub found: usize,
}

impl Services {
    /// Asks all certificates again where a rule has changed since they were asked; ends between two pages when it is told to.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; what was asked stays so.
    pub async fn review_policies(&self, stop: &CancellationToken) -> Result<Review, Error> {
        let mut review = Review::default();
        // Most of the time there is nothing to do, and to find that out should cost no commit.
        if !policy_review::is_under_way(&mut self.read().await?).await? {
            return Ok(review);
        }
        let actor = Actor::system();
        while !stop.is_cancelled() {
            let now = self.now();
            let page = transaction!(self.db, "review policies", conn => {
                let Some(ids) = policy_review::next(conn, PAGE).await? else {
                    return Ok(None);
                };
                let found = ask(conn, &actor, &ids, Telling::OncePerOwner, now).await?;
                let is_last = i64::try_from(ids.len()).is_ok_and(|count| count < PAGE);
                policy_review::asked(conn, ids.last().filter(|_| !is_last)).await?;
                Ok::<_, Error>(Some((ids.len(), found, is_last)))
            })?;
            let Some((asked, found, is_last)) = page else {
                break;
            };
            review.asked += asked;
            review.found += found;
            if is_last {
                break;
            }
        }
        Ok(review)
    }

    /// Waits until a rule was changed here.
    pub async fn policies_changed(&self) {
        self.policies_changed.rung().await;
    }
}
