//! Renewal policies.

use certctl_domain::{
    id::RenewalPolicyId,
    page::{Page, PageRequest},
    renewal_policy::RenewalPolicy,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::renewal_policies,
    types::{At, Json},
};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = renewal_policies, treat_none_as_null = true, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct RenewalPolicyRow {
    id: String,
    name: String,
    renewal_window_days: i32,
    auto_renew: bool,
    max_retries: i32,
    retry_interval_seconds: i32,
    alert_thresholds_days: Json,
    alert_channels: Json,
    alert_severity_map: Json,
    created_at: At,
    updated_at: At,
}

impl From<&RenewalPolicy> for RenewalPolicyRow {
    fn from(policy: &RenewalPolicy) -> Self {
        let clamp = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        Self {
            id: policy.id.to_string(),
            name: policy.name.clone(),
            renewal_window_days: clamp(policy.renewal_window_days),
            auto_renew: policy.auto_renew,
            max_retries: clamp(policy.max_retries),
            retry_interval_seconds: clamp(policy.retry_interval_seconds),
            alert_thresholds_days: Json(policy.alert_thresholds_days.clone().into()),
            alert_channels: Json(
                policy
                    .alert_channels
                    .iter()
                    .map(|(tier, channels)| {
                        (tier.clone(), serde_json::Value::from(channels.clone()))
                    })
                    .collect(),
            ),
            alert_severity_map: Json(
                policy
                    .alert_severity_map
                    .iter()
                    .map(|(days, tier)| (days.clone(), serde_json::Value::from(tier.clone())))
                    .collect(),
            ),
            created_at: At(policy.created_at),
            updated_at: At(policy.updated_at),
        }
    }
}

impl TryFrom<RenewalPolicyRow> for RenewalPolicy {
    type Error = Error;

    fn try_from(row: RenewalPolicyRow) -> Result<Self, Error> {
        let corrupt = |error: serde_json::Error| Error::corrupt("renewal_policies", error);
        Ok(Self {
            id: RenewalPolicyId::from_stored(row.id),
            name: row.name,
            renewal_window_days: row.renewal_window_days.unsigned_abs(),
            auto_renew: row.auto_renew,
            max_retries: row.max_retries.unsigned_abs(),
            retry_interval_seconds: row.retry_interval_seconds.unsigned_abs(),
            alert_thresholds_days: serde_json::from_value(row.alert_thresholds_days.0)
                .map_err(corrupt)?,
            alert_channels: serde_json::from_value(row.alert_channels.0).map_err(corrupt)?,
            alert_severity_map: serde_json::from_value(row.alert_severity_map.0)
                .map_err(corrupt)?,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

crud!(renewal_policies, RenewalPolicyRow, RenewalPolicy, RenewalPolicyId, order renewal_policies::name, renewal_policies::id);
