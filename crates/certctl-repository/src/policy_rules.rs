//! Policy rules.

use certctl_domain::{
    id::PolicyRuleId,
    page::{Page, PageRequest},
    policy_rule::{PolicyRule, PolicySeverity, PolicyType},
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::policy_rules,
    types::{At, Json},
};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = policy_rules, treat_none_as_null = true, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct RuleRow {
    id: String,
    name: String,
    kind: String,
    config: Json,
    enabled: bool,
    severity: String,
    created_at: At,
    updated_at: At,
}

impl From<&PolicyRule> for RuleRow {
    fn from(rule: &PolicyRule) -> Self {
        Self {
            id: rule.id.to_string(),
            name: rule.name.clone(),
            kind: rule.rule_type.to_string(),
            config: Json(rule.config.clone()),
            enabled: rule.enabled,
            severity: rule.severity.to_string(),
            created_at: At(rule.created_at),
            updated_at: At(rule.updated_at),
        }
    }
}

impl TryFrom<RuleRow> for PolicyRule {
    type Error = Error;

    fn try_from(row: RuleRow) -> Result<Self, Error> {
        let corrupt = |problem: String| Error::corrupt("policy_rules", problem);
        Ok(Self {
            id: PolicyRuleId::from_stored(row.id),
            name: row.name,
            rule_type: PolicyType::parse(&row.kind).map_err(|error| corrupt(error.to_string()))?,
            config: row.config.0,
            enabled: row.enabled,
            severity: PolicySeverity::parse(&row.severity)
                .map_err(|error| corrupt(error.to_string()))?,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

crud!(policy_rules, RuleRow, PolicyRule, PolicyRuleId, order policy_rules::created_at.desc(), policy_rules::id);

/// Rules that are asked at the most: what one evaluation holds in memory.
const MOST: i64 = 1000;

/// Every rule that counts.
///
/// # Errors
/// What the database says.
pub async fn enabled(conn: &mut Conn) -> Result<Vec<PolicyRule>, Error> {
    let rows: Vec<RuleRow> = on_conn!(conn, c => policy_rules::table
        .filter(policy_rules::enabled.eq(true))
        .select(RuleRow::as_select())
        .order(policy_rules::id)
        .limit(MOST)
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}
