use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::nouns::{NOW, NounApi};

const GROUPS: &str = "/api/v1/agent-groups";

db_tests! {
    async fn agent_groups_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        let group = json!({"id": "ag-1", "name": "Rack A", "description": "", "match_os": "linux", "match_architecture": "", "match_ip_cidr": "10.0.1.0/24",
            "match_version": "", "enabled": true, "created_at": NOW, "updated_at": NOW});
        api.post(GROUPS, &json!({"id": "ag-1", "name": "Rack A", "match_os": "linux", "match_ip_cidr": " 10.0.1.0/24 "})).await.is(201, &group);
        api.post(GROUPS, &json!({"id": "ag-2", "name": "All", "enabled": false})).await;
        api.get(&format!("{GROUPS}/ag-1")).await.is(200, &group);
        let names: Vec<Value> = api.get(GROUPS).await.json()["data"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        assert_eq!(names, ["All", "Rack A"], "by name");
        let changed = api.put(&format!("{GROUPS}/ag-1"), &json!({"name": "Rack B", "match_version": "1.2"})).await.json();
        assert_eq!((&changed["name"], &changed["match_os"], &changed["match_version"]), (&json!("Rack B"), &json!(""), &json!("1.2")));
        api.delete(&format!("{GROUPS}/ag-1")).await.is_done();
        assert_eq!(api.get(&format!("{GROUPS}/ag-1")).await.status, 404);
        let actions = api.db.texts("SELECT action || ' ' || resource_id AS value FROM audit_events WHERE resource_type = 'agent_group' ORDER BY timestamp, id").await;
        assert_eq!(actions, ["create_agent_group ag-1", "create_agent_group ag-2", "update_agent_group ag-1", "delete_agent_group ag-1"]);
    }

    async fn members_over_http(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        api.post(GROUPS, &json!({"id": "ag-1", "name": "Near", "match_ip_cidr": "192.0.2.0/24"})).await;
        let members = api.get(&format!("{GROUPS}/ag-1/members")).await;
        let agent = api.get("/api/v1/agents/ag-web").await.json();
        members.is(200, &json!({"data": [agent], "total": 1, "page": 1, "per_page": 50}));
        api.get(&format!("{GROUPS}/ag-1/members?page=2&per_page=1")).await.is(200, &json!({"data": [], "total": 1, "page": 2, "per_page": 1}));
        assert_eq!(api.get(&format!("{GROUPS}/ag-none/members")).await.status, 404);
    }

    async fn refusals_of_agent_groups_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        api.refuses_the_unknown(GROUPS, &json!({"name": "x"})).await;
        api.post(GROUPS, &json!({"id": "ag-1", "name": "Taken"})).await;
        api.reads_only_for_viewers(GROUPS, "ag-1", &json!({"name": "x"})).await;
        for network in ["10.0.1.0/33", "10.0.1", "host/8", "10.0.1.0/24,10.0.2.0/24"] {
            api.post(GROUPS, &json!({"name": "x", "match_ip_cidr": network})).await
                .is_main(400, "Bad Request", "match_ip_cidr: is no network, such as 10.0.1.0/24 or fd00::/8");
        }
        api.post(GROUPS, &json!({"name": ""})).await.is_main(400, "Bad Request", "name: is required");
        api.post(GROUPS, &json!({"name": "Taken"})).await.is_main(409, "Conflict", "an agent group named \"Taken\" or with this id exists");
    }
}
