//! Renewals that are planned anew because their policy changed.

use certctl_domain::renewal_policy::RenewalPolicy;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, db::dialect};

/// Plans the renewal of every certificate of a policy by its present window: one statement over all of them.
///
/// The rule is that of [`certctl_domain::renewal_policy::renew_at`]: the window, but at most a third of the certificate's life,
/// spread over its first tenth or first day.
///
/// # Errors
/// What the database says.
pub async fn of_policy(conn: &mut Conn, policy: &RenewalPolicy) -> Result<usize, Error> {
    let sql = match conn {
        Conn::Postgres(_) => POSTGRES.into(),
        Conn::Sqlite(_) => dialect(conn, SQLITE),
    };
    let days = i64::from(policy.renewal_window_days);
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(policy.id.as_str())
        .bind::<BigInt, _>(days)
        .execute(c)
        .await)?)
}

/// A life is taken from the version that ends when the certificate does; without one the window stands as it is.
const POSTGRES: &str = "WITH lives AS ( \
        SELECT m.id, LEAST(make_interval(days => $2::int), (SELECT (m.expires_at - max(v.not_before)) / 3 \
            FROM certificate_versions AS v WHERE v.certificate_id = m.id AND v.not_after = m.expires_at)) AS early \
        FROM managed_certificates AS m WHERE m.renewal_policy_id = $1 AND m.expires_at IS NOT NULL \
            AND m.status IN ('Active', 'Expiring', 'Pending')) \
    UPDATE managed_certificates AS m SET renew_at = m.expires_at - lives.early + random() * LEAST(lives.early / 10, interval '1 day') \
    FROM lives WHERE lives.id = m.id";
const SQLITE: &str = "WITH lives AS ( \
        SELECT m.id, min($2 * 86400000000, coalesce((SELECT (m.expires_at - max(v.not_before)) / 3 \
            FROM certificate_versions AS v WHERE v.certificate_id = m.id AND v.not_after = m.expires_at), $2 * 86400000000)) AS early \
        FROM managed_certificates AS m WHERE m.renewal_policy_id = $1 AND m.expires_at IS NOT NULL \
            AND m.status IN ('Active', 'Expiring', 'Pending')) \
    UPDATE managed_certificates AS m SET renew_at = m.expires_at - lives.early + abs(random() % (1 + min(lives.early / 10, 86400000000))) \
    FROM lives WHERE lives.id = m.id";
