//! Renewals that are planned anew because their policy changed.

use certctl_domain::renewal_policy::RenewalPolicy;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, prepared::Prepare as _};

/// Plans the renewal of every certificate of a policy by its present window: one statement over all of them.
///
/// The rule is that of [`certctl_domain::renewal_policy::renew_at`]: the window, but at most a third of the certificate's life,
/// spread over its first tenth or first day.
///
/// # Errors
/// What the database says.
pub async fn of_policy(conn: &mut Conn, policy: &RenewalPolicy) -> Result<usize, Error> {
    let sql = statement(conn, "$2", "WHERE m.renewal_policy_id = $1");
    let days = i64::from(policy.renewal_window_days);
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(policy.id.as_str())
        .bind::<BigInt, _>(days)
        .prepared()
        .execute(c)
        .await)?)
}

/// Plans, by the same rule, the renewal of certificates that have none planned: those that others wrote, or whose policy is
/// another one now.
///
/// # Errors
/// What the database says.
pub async fn of_unplanned(conn: &mut Conn) -> Result<usize, Error> {
    let sql = statement(
        conn,
        "p.renewal_window_days",
        "JOIN renewal_policies AS p ON p.id = m.renewal_policy_id WHERE m.renew_at IS NULL",
    );
    Ok(on_conn!(conn, c => diesel::sql_query(sql).prepared().execute(c).await)?)
}

/// The statement for a window of so many days, over the certificates that `of` tells.
///
/// A life is taken from the version that ends when the certificate does; without one the window stands as it is. What ended
/// before 1970 was written by others and has nothing to plan: no window before it may leave what the database can hold, or one
/// such row would stop the scan of all.
fn statement(conn: &Conn, days: &str, of: &str) -> String {
    const LIFE: &str = "(SELECT (m.expires_at - max(v.not_before)) / 3 FROM certificate_versions AS v \
        WHERE v.certificate_id = m.id AND v.not_after = m.expires_at)";
    const MAY: &str = "m.status IN ('Active', 'Expiring', 'Pending', 'Failed')";
    match conn {
        Conn::Postgres(_) => format!(
            "WITH lives AS (SELECT m.id, LEAST(make_interval(days => {days}::int), {LIFE}) AS early \
                FROM managed_certificates AS m {of} AND m.expires_at IS NOT NULL AND m.expires_at >= to_timestamp(0) AND {MAY}) \
             UPDATE managed_certificates AS m \
                SET renew_at = m.expires_at - lives.early + random() * LEAST(lives.early / 10, interval '1 day') \
             FROM lives WHERE lives.id = m.id"
        ),
        Conn::Sqlite(_) => format!(
            "WITH lives AS (SELECT m.id, min({days} * 86400000000, coalesce({LIFE}, {days} * 86400000000)) AS early \
                FROM managed_certificates AS m {of} AND m.expires_at IS NOT NULL AND m.expires_at >= 0 AND {MAY}) \
             UPDATE managed_certificates AS m \
                SET renew_at = m.expires_at - lives.early + abs(random() % (1 + min(lives.early / 10, 86400000000))) \
             FROM lives WHERE lives.id = m.id"
        )
        .replace('$', "?"),
    }
}
