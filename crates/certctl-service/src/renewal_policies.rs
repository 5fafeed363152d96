//! Renewal policies.

use std::collections::BTreeMap;

use certctl_domain::{
    access::{Actor, Permission},
    audit::EventCategory,
    id::RenewalPolicyId,
    page::{Page, PageRequest},
    renewal_policy::{RenewalPolicy, slug},
    time::Timestamp,
    validation::{MAX_NAME, required_text},
};
use certctl_repository::{
    Conn, Error as RepositoryError, locks, renewal_policies, replanning, transaction,
};
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    input::deleted,
    services::{authorise, event, record},
};

/// What a caller says of a renewal policy. On creation absent fields take the defaults of the contract; on an update they stay
/// as they are.
#[derive(Debug, Clone, Default)]
pub struct RenewalPolicyInput {
    /// The name; required on creation.
    pub name: Option<String>,
    /// Days before expiry at which renewal begins, 1 to 365; 30.
    pub renewal_window_days: Option<u32>,
    /// Whether the renewal scan renews at all; yes.
    pub auto_renew: Option<bool>,
    /// Attempts of a job beyond which it stays failed, 0 to 10; 3.
    pub max_retries: Option<u32>,
    /// Seconds before the first retry, 60 to 86,400; 3600.
    pub retry_interval_seconds: Option<u32>,
    /// Days before expiry at which alerts go out, each 0 to 365; 30, 14, 7, 0.
    pub alert_thresholds_days: Option<Vec<u32>>,
    /// Tier to channels; empty.
    pub alert_channels: Option<BTreeMap<String, Vec<String>>>,
    /// Threshold to tier; empty.
    pub alert_severity_map: Option<BTreeMap<String, String>>,
}

/// Policies whose names make the same slug, at the most.
const MAX_NAMESAKES: u32 = 100;

impl Services {
    /// Lists renewal policies by name.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `policy.read`.
    pub async fn list_renewal_policies(
        &self,
        actor: &Actor,
        page: PageRequest,
    ) -> Result<Page<RenewalPolicy>, Error> {
        authorise(actor, Permission::PolicyRead)?;
        Ok(renewal_policies::list(&mut self.read().await?, page).await?)
    }

    /// Reads a renewal policy.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `policy.read`, [`Error::NotFound`].
    pub async fn get_renewal_policy(
        &self,
        actor: &Actor,
        id: &RenewalPolicyId,
    ) -> Result<RenewalPolicy, Error> {
        authorise(actor, Permission::PolicyRead)?;
        renewal_policies::find(&mut self.read().await?, id)
            .await
            .or_not_found("renewal policy", id)
    }

    /// Makes a renewal policy; its id is the slug of its name.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `policy.edit`, [`Error::Invalid`] naming the field that is out of bounds,
    /// [`Error::Conflict`] when the name is taken.
    pub async fn create_renewal_policy(
        &self,
        actor: &Actor,
        input: RenewalPolicyInput,
    ) -> Result<RenewalPolicy, Error> {
        authorise(actor, Permission::PolicyEdit)?;
        let now = self.now();
        let mut draft = defaults(now);
        merge(&mut draft, &input)?;
        required_text("name", &draft.name, MAX_NAME)?;
        transaction!(self.db, "create renewal policy", conn => {
            let policy = RenewalPolicy { id: free_id(conn, &draft.name).await?, ..draft.clone() };
            renewal_policies::insert(conn, &policy).await.or_conflict(|| taken(&policy.name))?;
            let resource = ("renewal_policy", policy.id.as_str());
            record(conn, event(actor, EventCategory::Config, "create_renewal_policy", resource, json!({}), now)).await?;
            Ok::<_, Error>(policy)
        })
    }

    /// Changes a renewal policy; absent fields stay as they are. When its window changes, the renewals of its certificates are
    /// planned anew in the same transaction.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `policy.edit`, [`Error::NotFound`], [`Error::Invalid`] naming the field that is out of
    /// bounds, [`Error::Conflict`] when the name is taken.
    pub async fn update_renewal_policy(
        &self,
        actor: &Actor,
        id: &RenewalPolicyId,
        input: RenewalPolicyInput,
    ) -> Result<RenewalPolicy, Error> {
        authorise(actor, Permission::PolicyEdit)?;
        let now = self.now();
        transaction!(self.db, "update renewal policy", conn => {
            locks::renewal_policy(conn, id).await.or_not_found("renewal policy", id)?;
            let mut policy = renewal_policies::find(conn, id).await.or_not_found("renewal policy", id)?;
            let window = policy.renewal_window_days;
            merge(&mut policy, &input)?;
            policy.updated_at = now;
            renewal_policies::update(conn, &policy).await.or_conflict(|| taken(&policy.name))?;
            let replanned = if policy.renewal_window_days == window { 0 } else { replanning::of_policy(conn, &policy).await? };
            let resource = ("renewal_policy", id.as_str());
            let details = json!({"certificates_replanned": replanned});
            record(conn, event(actor, EventCategory::Config, "update_renewal_policy", resource, details, now)).await?;
            Ok::<_, Error>(policy)
        })
    }

    /// Deletes a renewal policy that no certificate uses.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `policy.delete`, [`Error::NotFound`], [`Error::Conflict`] while certificates use it.
    pub async fn delete_renewal_policy(
        &self,
        actor: &Actor,
        id: &RenewalPolicyId,
    ) -> Result<(), Error> {
        authorise(actor, Permission::PolicyDelete)?;
        let now = self.now();
        transaction!(self.db, "delete renewal policy", conn => {
            deleted(renewal_policies::delete(conn, id).await, "renewal policy", id, "certificates use this renewal policy")?;
            let resource = ("renewal_policy", id.as_str());
            record(conn, event(actor, EventCategory::Config, "delete_renewal_policy", resource, json!({}), now)).await?;
            Ok::<_, Error>(())
        })
    }
}

/// A policy of which nothing was said (api §20); the id is given in the transaction that enters it.
fn defaults(now: Timestamp) -> RenewalPolicy {
    RenewalPolicy {
        id: RenewalPolicyId::from_stored(String::new()),
        name: String::new(),
        renewal_window_days: 30,
        auto_renew: true,
        max_retries: 3,
        retry_interval_seconds: 3600,
        alert_thresholds_days: vec![30, 14, 7, 0],
        alert_channels: BTreeMap::new(),
        alert_severity_map: BTreeMap::new(),
        created_at: now,
        updated_at: now,
    }
}

/// Puts what the caller said over what is there.
fn merge(policy: &mut RenewalPolicy, input: &RenewalPolicyInput) -> Result<(), Error> {
    fn put<T: Clone>(field: &mut T, said: Option<&T>) {
        if let Some(said) = said {
            field.clone_from(said);
        }
    }
    if let Some(name) = &input.name {
        policy.name = required_text("name", name, MAX_NAME)?;
    }
    put(
        &mut policy.renewal_window_days,
        input.renewal_window_days.as_ref(),
    );
    put(&mut policy.auto_renew, input.auto_renew.as_ref());
    put(&mut policy.max_retries, input.max_retries.as_ref());
    put(
        &mut policy.retry_interval_seconds,
        input.retry_interval_seconds.as_ref(),
    );
    put(
        &mut policy.alert_thresholds_days,
        input.alert_thresholds_days.as_ref(),
    );
    put(&mut policy.alert_channels, input.alert_channels.as_ref());
    put(
        &mut policy.alert_severity_map,
        input.alert_severity_map.as_ref(),
    );
    Ok(policy.check_bounds()?)
}

/// The slug of the name, or the first of `-2`, `-3` … that nobody has.
async fn free_id(conn: &mut Conn, name: &str) -> Result<RenewalPolicyId, Error> {
    let base = slug(name);
    for number in 1..=MAX_NAMESAKES {
        let id = RenewalPolicyId::from_stored(numbered(&base, number));
        match renewal_policies::find(conn, &id).await {
            Err(RepositoryError::NotFound) => return Ok(id),
            // The name itself may be what is taken; then no further id helps.
            Ok(policy) if policy.name == name => return Err(Error::Conflict(taken(name))),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Conflict(format!(
        "{MAX_NAMESAKES} renewal policies have a name like {name:?}"
    )))
}

/// A slug with a number, cut so that it stays within 64 characters; slugs are ASCII.
fn numbered(base: &str, number: u32) -> String {
    if number == 1 {
        return base.to_owned();
    }
    let suffix = format!("-{number}");
    let kept = base[..base.len().min(64 - suffix.len())].trim_end_matches('-');
    format!("{kept}{suffix}")
}

fn taken(name: &str) -> String {
    format!("a renewal policy named {name:?} exists, or was made at the same moment")
}
