//! Another owner, and perhaps another team, for all that match.

use certctl_domain::{
    id::{OwnerId, TeamId},
    time::Timestamp,
};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};

use super::{Selection, bind_selection, roomy};
use crate::{
    Backend, Conn, Error,
    db::SqliteConn,
    types::{At, TextList, Texts, UtcTimestamp},
};

/// Who answers for the certificates from now on.
#[derive(Debug, Clone)]
pub struct Reassignment<'a> {
    /// The owner.
    pub owner_id: &'a OwnerId,
    /// The team; each keeps its own when there is none.
    pub team_id: Option<&'a TeamId>,
    /// When.
    pub now: Timestamp,
}

/// What became of the matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reassigned {
    /// How many there were.
    pub matched: i64,
    /// How many have another owner or team now.
    pub reassigned: i64,
    /// Ids that were asked for by name and that no certificate has.
    pub unknown: Vec<String>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    matched: i64,
    #[diesel(sql_type = BigInt)]
    reassigned: i64,
    #[diesel(sql_type = TextList)]
    unknown: Texts,
}

impl From<Row> for Reassigned {
    fn from(row: Row) -> Self {
        Self {
            matched: row.matched,
            reassigned: row.reassigned,
            unknown: row.unknown.0,
        }
    }
}

/// Gives every match its new owner and team; those that have them already stay untouched.
///
/// # Errors
/// [`Error::Reference`] when the owner or team does not exist, or what the database says.
pub async fn reassign(
    conn: &mut Conn,
    selection: &Selection,
    to: &Reassignment<'_>,
) -> Result<Reassigned, Error> {
    on_conn!(conn,
        pg c => postgres(c, selection, to).await,
        sqlite c => roomy(c, async |c| sqlite(c, selection, to).await).await,
    )
}

/// Whether a certificate `m` has another owner or team than is asked for.
const DIFFERS: &str = "(m.owner_id <> $8 OR ($9 IS NOT NULL AND m.team_id <> $9))";

async fn postgres(
    conn: &mut AsyncPgConnection,
    selection: &Selection,
    to: &Reassignment<'_>,
) -> Result<Reassigned, Error> {
    let sql = format!(
        "WITH matched AS MATERIALIZED (\
            SELECT m.id, {DIFFERS} AS differs FROM managed_certificates m WHERE {} ORDER BY m.id FOR NO KEY UPDATE), \
         changed AS (\
            UPDATE managed_certificates m SET owner_id = $8, team_id = COALESCE($9, m.team_id), updated_at = $10 \
            FROM matched WHERE m.id = matched.id AND matched.differs RETURNING 1) \
         SELECT (SELECT count(*) FROM matched) AS matched, (SELECT count(*) FROM changed) AS reassigned, \
            ARRAY(SELECT a.id FROM unnest($6) WITH ORDINALITY AS a(id, n) WHERE NOT EXISTS \
                (SELECT FROM managed_certificates m WHERE m.id = a.id) ORDER BY a.n) AS unknown",
        selection.condition(Backend::Postgres)
    );
    let row: Row = bind_selection!(sql, selection)
        .bind::<Text, _>(to.owner_id.as_str())
        .bind::<Nullable<Text>, _>(to.team_id.map(TeamId::as_str))
        .bind::<UtcTimestamp, _>(At(to.now))
        .get_result(conn)
        .await?;
    Ok(row.into())
}

async fn sqlite(
    conn: &mut SqliteConn,
    selection: &Selection,
    to: &Reassignment<'_>,
) -> Result<Reassigned, Error> {
    let matches = selection.condition(Backend::Sqlite);
    let (owner, team) = (to.owner_id.to_string(), to.team_id.map(ToString::to_string));
    // Counted first: once they are changed, those that match by their owner no longer do.
    let counted = format!(
        "SELECT count(*) AS matched, 0 AS reassigned, (SELECT json_group_array(a.value) FROM json_each($6) a \
            WHERE NOT EXISTS (SELECT 1 FROM managed_certificates m WHERE m.id = a.value)) AS unknown \
         FROM managed_certificates m WHERE {matches} AND $8 IS NOT NULL"
    )
    .replace('$', "?");
    let mut row: Row = bind_selection!(counted, selection)
        .bind::<Text, _>(owner.clone())
        .get_result(conn)
        .await?;
    let changes = format!(
        "UPDATE managed_certificates AS m SET owner_id = $8, team_id = COALESCE($9, m.team_id), updated_at = $10 \
         WHERE {matches} AND {DIFFERS}"
    )
    .replace('$', "?");
    let changed = bind_selection!(changes, selection)
        .bind::<Text, _>(owner)
        .bind::<Nullable<Text>, _>(team)
        .bind::<UtcTimestamp, _>(At(to.now))
        .execute(conn)
        .await?;
    row.reassigned = super::count(changed);
    Ok(row.into())
}
