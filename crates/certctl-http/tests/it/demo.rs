//! The demo data as the API shows it.

use certctl_http::matrix;
use certctl_testkit::{TestDb, db_tests};
use http::Method;
use serde_json::{Value, json};

use crate::nouns::NounApi;

/// What takes parameters that are required, or answers no JSON.
fn is_plain(path: &str) -> bool {
    !path.contains('{')
        && path.starts_with("/api/v1/")
        && !path.contains("export")
        && !path.ends_with("prometheus")
}

db_tests! {
    async fn every_list_bears_the_rows_of_the_demo(db: TestDb) {
        db.seed_demo().await;
        let api = NounApi::new(db).await;
        let mut read = 0;
        for route in matrix().into_iter().filter(|route| route.method == Method::GET && is_plain(route.path)) {
            let answer = api.get(&format!("{}?per_page=500", route.path)).await;
            assert_eq!(answer.status, 200, "{} {answer:?}", route.path);
            let list = answer.json();
            if let (Some(rows), Some(total)) = (list["data"].as_array(), list["total"].as_i64()) {
                assert_eq!(i64::try_from(rows.len()), Ok(total), "{}", route.path);
            }
            read += 1;
        }
        assert!(read > 20, "{read}");
        for (list, total) in [("certificates", 32), ("jobs", 44), ("issuers", 13), ("targets", 10), ("agents", 13), ("profiles", 6), ("notifications", 15),
            ("agent-groups", 6), ("renewal-policies", 4), ("teams", 6), ("owners", 6)] {
            assert_eq!(api.get(&format!("/api/v1/{list}")).await.json()["total"], total, "{list}");
        }
    }

    async fn what_the_demo_has_beyond_the_bounds_is_read_all_the_same(db: TestDb) {
        db.seed_demo().await;
        let api = NounApi::new(db).await;
        let interval = async |id: &str| api.get(&format!("/api/v1/renewal-policies/{id}")).await.json()["retry_interval_seconds"].clone();
        assert_eq!((interval("rp-urgent").await, interval("rp-manual").await), (json!(30), json!(0)));
        for (group, members) in [("ag-linux-prod", 11), ("ag-linux-amd64", 9), ("ag-windows", 1), ("ag-datacenter-a", 2), ("ag-arm64", 3), ("ag-manual", 2)] {
            assert_eq!(api.get(&format!("/api/v1/agent-groups/{group}/members")).await.json()["total"], members, "{group}");
        }
        // A CA that this build cannot reach is told of, and does no harm.
        api.post("/api/v1/issuers/iss-acme-le/test", &Value::Null).await
            .is_main(502, "Bad Gateway", "this build does not connect to ACME issuers yet");
        let versions = api.get("/api/v1/certificates/mc-api-prod/versions").await.json();
        assert_eq!(versions["data"].as_array().or(versions.as_array()).map(Vec::len), Some(2), "{versions}");
    }
}
