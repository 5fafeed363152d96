//! Kept totals are those that a count would find, whatever happens to the rows and whoever does it at the same time.

use certctl_repository::{
    Backend, Error,
    certificates::{self, CertificateFilter},
    jobs,
    totals::{self, Counted},
    transaction,
};
use certctl_testkit::{TestDb, db_tests, entities};

/// What is kept and what is there, of both tables.
async fn both(db: &TestDb) -> [(i64, i64); 2] {
    let mut pairs = [(0, 0); 2];
    for (pair, (counted, table)) in pairs.iter_mut().zip([
        (Counted::Certificates, "managed_certificates"),
        (Counted::Jobs, "jobs"),
    ]) {
        let there = format!("SELECT CAST(count(*) AS TEXT) AS value FROM {table}");
        *pair = (
            totals::of(reader!(db), counted).await.unwrap(),
            db.text(&there).await.parse().unwrap(),
        );
    }
    pairs
}

db_tests! {
    async fn rows_are_counted_as_they_come_and_go(db: TestDb) {
        assert_eq!(both(&db).await, [(0, 0); 2]);
        let basics = db.seed_basics().await;
        let renewal = entities::renewal("job-1", &basics.certificate);
        tx!(db, conn => jobs::insert_all(conn, std::slice::from_ref(&renewal)).await).unwrap();
        assert_eq!(both(&db).await, [(1, 1); 2]);
        // A row that is there already is no new one, and what is rolled back never was.
        let rolled_back: Result<(), Error> = transaction!(db, "try", conn => {
            certificates::insert(conn, &basics.certificate("mc-2")).await?;
            assert_eq!(totals::of(conn, Counted::Certificates).await?, 2, "a transaction sees its own");
            certificates::insert(conn, &basics.certificate("mc-2")).await
        });
        rolled_back.unwrap_err();
        assert_eq!(both(&db).await, [(1, 1); 2]);
        let many = "INSERT INTO managed_certificates (id, name, common_name, owner_id, team_id, issuer_id, renewal_policy_id) \
            SELECT 'mc-' || r.id || o.id, 'mc-' || r.id || o.id, 'cn', 'o-alice', 't-platform', 'iss-local', 'rp-standard' FROM roles r CROSS JOIN roles o";
        db.execute(many).await.unwrap();
        let [(kept, there), _] = both(&db).await;
        assert!(kept == there && there > 40, "{kept} {there}");
        assert_eq!(certificates::count(reader!(db), &CertificateFilter::default()).await.unwrap(), there);
        // Jobs go with their certificate.
        db.execute("DELETE FROM managed_certificates WHERE id = 'mc-web'").await.unwrap();
        assert_eq!(both(&db).await, [(there - 1, there - 1), (0, 0)]);
        db.execute("DELETE FROM managed_certificates").await.unwrap();
        assert_eq!(both(&db).await, [(0, 0); 2]);
    }

    async fn writers_at_the_same_time_are_all_counted(db: TestDb) {
        let basics = db.seed_basics().await;
        let writers = (0..8).map(|writer| {
            let (db, basics) = (db.db(), basics.clone());
            tokio::spawn(async move {
                for number in 0..10 {
                    let certificate = basics.certificate(&format!("mc-{writer}-{number}"));
                    let renewal = entities::renewal(&format!("job-{writer}-{number}"), &certificate.id);
                    let done: Result<(), Error> = transaction!(db, "write", conn => {
                        certificates::insert(conn, &certificate).await?;
                        jobs::insert_all(conn, std::slice::from_ref(&renewal)).await
                    });
                    done.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        assert_eq!(both(&db).await, [(81, 81), (80, 80)]);
    }

    async fn a_table_that_is_emptied_at_once_has_no_rows(db: TestDb) {
        db.seed_basics().await;
        let sql = match db.backend() {
            Backend::Postgres => "TRUNCATE managed_certificates CASCADE",
            Backend::Sqlite => "DELETE FROM managed_certificates",
        };
        db.execute(sql).await.unwrap();
        assert_eq!(both(&db).await, [(0, 0); 2]);
    }
}
