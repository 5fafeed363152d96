use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::nouns::{NOW, NounApi, VIEWER_KEY};

const LIST: &str = "/api/v1/notifications";

/// Two rows that wait and one that was given up.
async fn put(db: &TestDb) {
    for (id, status) in [("ne-1", "pending"), ("ne-2", "dead"), ("ne-3", "sent")] {
        let sent = if status == "sent" {
            "created_at"
        } else {
            "NULL"
        };
        let sql = format!(
            "INSERT INTO notification_events (id, type, certificate_id, recipient, message, status, retry_count, error, sent_at, created_at) \
             SELECT '{id}', 'RenewalFailure', 'mc-web', 'ann@example.test', 'x', '{status}', 0, CASE WHEN '{status}' = 'dead' THEN 'no' END, {sent}, created_at \
             FROM managed_certificates WHERE id = 'mc-web'"
        );
        db.execute(&sql).await.unwrap();
    }
}

db_tests! {
    async fn notifications_over_http(db: TestDb) {
        db.seed_basics().await;
        put(&db).await;
        let api = NounApi::new(db).await;
        let mut dead = json!({"id": "ne-2", "type": "RenewalFailure", "certificate_id": "mc-web", "channel": "Email", "recipient": "ann@example.test",
            "message": "x", "status": "dead", "error": "no", "retry_count": 0, "created_at": NOW});
        api.get(&format!("{LIST}/ne-2")).await.is(200, &dead);
        api.get(&format!("{LIST}?status=DEAD&type=renewalfailure&channel=email")).await
            .is(200, &json!({"data": [dead], "total": 1, "page": 1, "per_page": 50}));
        api.get(&format!("{LIST}?status=lost")).await.is(200, &json!({"data": [], "total": 0, "page": 1, "per_page": 50}));
        let all = api.get(LIST).await.json();
        assert_eq!((&all["total"], &all["data"][0]["id"]), (&json!(3), &json!("ne-3")));

        api.post(&format!("{LIST}/ne-2/requeue"), &Value::Null).await.is(200, &json!({"status": "requeued"}));
        dead["status"] = json!("pending");
        dead.as_object_mut().unwrap().remove("error");
        api.get(&format!("{LIST}/ne-2")).await.is(200, &dead);
        api.post(&format!("{LIST}/ne-2/read"), &Value::Null).await.is(200, &json!({"status": "marked_as_read"}));
        api.post(&format!("{LIST}/ne-2/read"), &Value::Null).await.is(200, &json!({"status": "marked_as_read"}));
        for id in ["ne-2", "ne-3"] {
            api.post(&format!("{LIST}/{id}/requeue"), &Value::Null).await.is_main(409, "Conflict", "a notification that was sent or read is not sent again");
        }
        for what in ["read", "requeue"] {
            assert_eq!(api.post(&format!("{LIST}/ne-none/{what}"), &Value::Null).await.status, 404);
        }
        let actions = api.db.texts("SELECT action AS value FROM audit_events WHERE resource_id = 'ne-2' ORDER BY timestamp, id").await;
        assert_eq!(actions, ["notification_requeued", "notification_read"], "reading twice is noted once");
    }

    async fn a_viewer_reads_notifications_and_sends_none_again(db: TestDb) {
        db.seed_basics().await;
        put(&db).await;
        let api = NounApi::new(db).await;
        let refused = api.call("POST", &format!("{LIST}/ne-2/requeue"), VIEWER_KEY, &Value::Null).await;
        refused.is_gate(403, "Insufficient permissions");
        let read = api.call("POST", &format!("{LIST}/ne-2/read"), VIEWER_KEY, &Value::Null).await;
        assert_eq!(read.status, 200, "{read:?}");
    }
}
