//! The sealed trail over HTTP, and the rows that calls of the API leave.

use std::time::Duration;

use axum::body::Body;
use certctl_testkit::{TestDb, db_tests};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::{
    nouns::{NounApi, VIEWER_KEY},
    support::request,
};

const PATH: &str = "/api/v1/audit";

/// The lines of a file of JSON.
fn lines_of(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What calls left, oldest first: actor, action, path, status.
async fn calls(api: &NounApi) -> Vec<String> {
    api.services.flush_api_trail().await.unwrap();
    let mut rows: Vec<(String, String)> = Vec::new();
    let text = "SELECT id || '|' || actor || ' ' || action || ' ' || resource_id || ' ' || CAST(details AS TEXT) AS value \
        FROM audit_events WHERE resource_type = 'api'";
    for row in api.db.texts(text).await {
        let (id, rest) = row.split_once('|').unwrap();
        let (head, details) = rest.split_once(" {").unwrap();
        let details: Value = serde_json::from_str(&format!("{{{details}")).unwrap();
        assert!(
            details["latency_ms"].is_u64() && details["method"].is_string(),
            "{details}"
        );
        // Ids count up within a process; what comes before the counter is the time, which stands still.
        let number = id.rsplit('-').next().unwrap();
        rows.push((
            format!("{number:0>20}"),
            format!("{head} {}", details["status"]),
        ));
    }
    rows.sort();
    rows.into_iter().map(|(_, row)| row).collect()
}

db_tests! {
    async fn every_call_of_somebody_known_leaves_a_row(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        api.get("/api/v1/teams?page=2").await;
        api.post("/api/v1/teams", &json!({"name": "Two"})).await;
        assert_eq!(api.call("POST", "/api/v1/teams", VIEWER_KEY, &json!({"name": "Three"})).await.status, 403);
        assert_eq!(api.get("/api/v1/teams/t-none").await.status, 404);
        api.call("GET", "/api/v1/teams", "", &Value::Null).await;
        api.call("GET", "/api/v1/teams", "no-such-key-0123456789", &Value::Null).await;
        for left_out in ["/health", "/ready", "/api/v1/version", "/api/v1/nowhere"] {
            api.get(left_out).await;
        }
        assert_eq!(
            calls(&api).await,
            ["admin api_get /api/v1/teams 200", "admin api_post /api/v1/teams 201", "viewer api_post /api/v1/teams 403",
             "admin api_get /api/v1/teams/t-none 404"]
        );
        let hashes = "SELECT CAST(details AS TEXT) AS value FROM audit_events WHERE action = 'api_post' AND actor = 'viewer'";
        let details: Value = serde_json::from_str(&api.db.text(hashes).await).unwrap();
        // SHA-256 of {"name":"Three"}: of the body that the gate never let a handler read.
        let expected = certctl_service::access::key_hash("{\"name\":\"Three\"}");
        assert_eq!((&details["body_hash"], &details["method"], &details["path"]), (&json!(expected), &json!("POST"), &json!("/api/v1/teams")));
    }

    async fn an_enrolment_is_there_when_its_token_was_good(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        let body = json!({"name": "edge", "hostname": "edge.example.test"});
        assert_eq!(api.call("POST", "/api/v1/agents", "wrong-token-0123456789", &body).await.status, 401);
        let token = certctl_testkit::services::BOOTSTRAP_TOKEN;
        assert_eq!(api.call("POST", "/api/v1/agents", token, &body).await.status, 201);
        assert_eq!(calls(&api).await, ["anonymous api_post /api/v1/agents 201"]);
    }

    async fn a_body_too_large_is_refused_and_entered(db: TestDb) {
        let api = NounApi::new(db).await;
        let chunks = futures_util::stream::iter((0..300).map(|_| Ok::<_, std::io::Error>(vec![b' '; 8192])));
        let request = request("POST", "/api/v1/teams", certctl_testkit::services::ADMIN_KEY);
        let answer = api.send(request.body(Body::from_stream(chunks)).unwrap()).await;
        assert_eq!(answer.status, 413);
        assert_eq!(calls(&api).await, ["admin api_post /api/v1/teams 413"]);
    }

    async fn a_call_that_is_given_up_before_its_body_came_is_entered_as_that(db: TestDb) {
        let api = NounApi::new(db).await;
        let (asked, reading) = tokio::sync::oneshot::channel();
        let mut asked = Some(asked);
        // A body that never comes; the server has the call in hand when it asks for it.
        let body = futures_util::stream::poll_fn(move |_| {
            asked.take().map(|asked| asked.send(()));
            std::task::Poll::<Option<std::io::Result<Vec<u8>>>>::Pending
        });
        let request = request("POST", "/api/v1/teams", certctl_testkit::services::ADMIN_KEY);
        tokio::select! {
            answer = api.send(request.body(Body::from_stream(body)).unwrap()) => panic!("{answer:?}"),
            asked = reading => asked.unwrap(),
        }
        assert_eq!(calls(&api).await, ["admin api_post /api/v1/teams 499"]);
    }

    async fn whoever_hangs_up_while_the_queue_is_full_is_entered_all_the_same(db: TestDb) {
        let api = NounApi::with(db, |config| config.audit.queue = 1).await;
        api.get("/api/v1/teams").await;
        let body = json!({"id": "t-full", "name": "Full"});
        let mut waiting = Box::pin(api.post("/api/v1/teams", &body));
        // Polled until what it asked for is done: the answer itself waits for room in the queue.
        while api.db.texts("SELECT id AS value FROM teams WHERE id = 't-full'").await.is_empty() {
            assert!(waiting.as_mut().now_or_never().is_none(), "nobody is answered while the queue is full");
            tokio::task::yield_now().await;
        }
        drop(waiting);
        let found = calls(&api).await;
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(["admin api_post /api/v1/teams 201", "admin api_post /api/v1/teams 499"].contains(&found[1].as_str()), "{found:?}");
    }

    async fn a_full_queue_makes_callers_wait_until_it_is_written(db: TestDb) {
        let api = NounApi::with(db, |config| config.audit.queue = 2).await;
        for _ in 0..2 {
            assert_eq!(api.get("/api/v1/teams").await.status, 200);
        }
        let (third, flushed) = tokio::join!(api.get("/api/v1/teams/t-none"), async {
            let mut written = 0;
            while written < 3 {
                written += api.services.flush_api_trail().await.unwrap();
                tokio::task::yield_now().await;
            }
            written
        });
        assert_eq!((third.status, flushed), (404, 3));
    }

    async fn the_trail_is_verified_proved_and_exported_over_http(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        let empty = api.get(&format!("{PATH}/verify")).await.json();
        assert_eq!((&empty["intact"], &empty["row_count"], &empty["first_break_pos"]), (&json!(true), &json!(0), &json!(-1)));
        api.post("/api/v1/teams", &json!({"name": "Two"})).await;
        api.post("/api/v1/teams", &json!({"name": "Three"})).await;
        let id = api.get(PATH).await.json()["data"][0]["id"].as_str().unwrap().to_owned();
        let early = api.get(&format!("{PATH}/{id}/proof")).await;
        assert!(early.status == 409 && early.json()["message"].as_str().unwrap().contains("not sealed yet"), "{early:?}");
        assert_eq!(api.services.seal_audit_log().await.unwrap().rows, 2);

        let found = api.get(&format!("{PATH}/verify?from=start")).await.json();
        assert_eq!((&found["intact"], &found["row_count"], &found["total_rows"], &found["first_break_id"]),
            (&json!(true), &json!(2), &json!(2), &Value::Null));
        let heads = api.get(&format!("{PATH}/heads")).await.json();
        assert_eq!((&heads["total"], &heads["data"][0]["hash"]), (&json!(1), &found["head_hash"]));
        let expected = format!("{PATH}/verify?from=start&expect_head=");
        let with = |hash: &str| format!("{expected}{hash}");
        assert_eq!(api.get(&with(found["head_hash"].as_str().unwrap())).await.json()["intact"], true);
        assert_eq!(api.get(&with(&"0".repeat(64))).await.json()["intact"], false);
        let proof = api.get(&format!("{PATH}/{id}/proof")).await.json();
        assert_eq!((&proof["event"]["id"], &proof["tree_size"], &proof["head"]["batch"]), (&json!(id), &json!(2), &json!(1)));
        assert_eq!(proof["path"].as_array().unwrap().len(), 1);
        let keys = api.get(&format!("{PATH}/keys")).await.json();
        assert_eq!(keys[0]["key_id"], proof["head"]["key_id"]);
        assert!(keys[0]["public_key_pem"].as_str().unwrap().starts_with("-----BEGIN PUBLIC KEY-----"));
        let rotated = api.post(&format!("{PATH}/keys/rotate"), &Value::Null).await;
        assert_eq!((rotated.status, rotated.json()["key_id"] == keys[0]["key_id"]), (201, false));

        let range = "from=2026-05-31T00:00:00Z&to=2026-06-02T00:00:00Z";
        api.db.clock().advance(Duration::from_secs(1));
        let answer = api.get(&format!("{PATH}/export?{range}")).await;
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
        assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"certctl-audit-2026-05-31_to_2026-06-02.ndjson\""));
        let lines = lines_of(&answer.body);
        // The export and the rotation are there, too.
        assert_eq!((lines.len(), &lines[0]["action"], &lines[1]["action"]), (4, &json!("audit.export"), &json!("audit_key_rotated")));
        assert_eq!(lines[3], api.get(&format!("{PATH}/{}", lines[3]["id"].as_str().unwrap())).await.json());
        let limited = api.get(&format!("{PATH}/export?{range}&limit=2&category=auth")).await;
        assert_eq!(lines_of(&limited.body).len(), 1);
        let sealed = api.get(&format!("{PATH}/export?{range}&format=sealed&category=auth")).await;
        let lines = lines_of(&sealed.body);
        let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["begin", "head", "row", "row", "end"]);
        assert!(lines[2].get("event").is_none() && lines[2]["leaf"].is_string(), "of another category there is the hash only");
        for (query, field) in [
            ("to=2026-06-02T00:00:00Z", "from"), ("from=2026-06-02T00:00:00Z", "to"), ("from=x&to=y", "from"),
            ("from=2026-01-01T00:00:00Z&to=2026-06-02T00:00:00Z", "to"), ("from=2026-06-02T00:00:00Z&to=2026-06-01T00:00:00Z", "to"),
            (&format!("{range}&limit=0"), "limit"), (&format!("{range}&limit=100001"), "limit"), (&format!("{range}&limit=x"), "limit"),
            (&format!("{range}&category=gossip"), "category"), (&format!("{range}&format=csv"), "format"),
        ] {
            let answer = api.get(&format!("{PATH}/export?{query}")).await;
            let said = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(answer.status == 400 && said.contains(field), "{query}: {said}");
        }
        for query in ["from=middle", "expect_head=12"] {
            assert_eq!(api.get(&format!("{PATH}/verify?{query}")).await.status, 400, "{query}");
        }
        assert_eq!(api.call("GET", &format!("{PATH}/export?{range}"), VIEWER_KEY, &Value::Null).await.status, 403);
    }
}
