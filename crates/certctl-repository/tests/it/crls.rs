//! The entries of revocation lists.

use certctl_domain::revocation::RevocationReason;
use certctl_repository::{
    crls::{self, Position},
    revocations,
};
use certctl_testkit::{Basics, TestDb, database::START, db_tests};

use crate::revocations::{DAY, revocation, version};

/// The serials of all pages behind a position.
async fn serials(db: &TestDb, basics: &Basics, start: Position, page: i64) -> Vec<String> {
    let mut after = start;
    let mut all = Vec::new();
    loop {
        let entries = crls::entries(reader!(db), &basics.issuer, &after, page)
            .await
            .unwrap();
        match entries.last() {
            Some(last) => after = Position::behind(last),
            None => return all,
        }
        all.extend(entries.iter().map(|entry| entry.serial.to_string()));
    }
}

db_tests! {
    async fn entries_come_in_the_order_in_which_they_leave_and_what_has_left_is_passed_over(db: TestDb) {
        let basics = db.seed_basics().await;
        let own = Some(basics.issuer.as_str());
        // Three that end at once, one that ended before it was revoked, one long ago, one that is too short-lived.
        for (hex, ends) in [("a3", START + DAY), ("a1", START + DAY), ("a2", START + DAY), ("b1", START - DAY), ("c1", START + 2 * DAY)] {
            version(&db, &basics, hex, own, ends, 5 * DAY).await;
        }
        version(&db, &basics, "d1", own, START + DAY, DAY / 48).await;
        let mut all: Vec<_> = ["a1", "a2", "a3", "b1", "c1", "d1", "ff"].map(|hex| revocation(&basics, hex, RevocationReason::Superseded)).to_vec();
        all[4].revoked_at = START - DAY;
        tx!(db, conn => revocations::enter(conn, &all).await).unwrap();
        let expected = ["b1", "a1", "a2", "a3", "c1", "ff"];
        for page in [1, 2, 3, 100] {
            assert_eq!(serials(&db, &basics, Position::start(None), page).await, expected, "{page} at a time");
            assert_eq!(serials(&db, &basics, Position::start(Some(START)), page).await, expected, "an entry at the bound is on the list");
            assert_eq!(serials(&db, &basics, Position::start(Some(START + DAY)), page).await, expected[1..]);
            assert_eq!(serials(&db, &basics, Position::start(Some(START + 2 * DAY)), page).await, expected[4..]);
            assert_eq!(serials(&db, &basics, Position::start(Some(START + 3 * DAY)), page).await, ["ff"], "nobody knows when it ends");
        }
    }

    // SQLite gets to a column behind the list by walking through all of its pages: 8 ms for a million entries, at every look at
    // the number.
    async fn the_list_stands_behind_all_other_columns(db: TestDb) {
        let sql = match db.backend() {
            certctl_repository::Backend::Postgres => "SELECT CAST(column_name AS text) AS value FROM information_schema.columns WHERE table_name = 'crl_cache' ORDER BY ordinal_position",
            certctl_repository::Backend::Sqlite => "SELECT name AS value FROM pragma_table_info('crl_cache') ORDER BY cid",
        };
        assert_eq!(db.texts(sql).await.last().map(String::as_str), Some("crl_der"));
    }
}
