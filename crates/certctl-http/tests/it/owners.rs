use certctl_testkit::{TestDb, db_tests};
use serde_json::json;

use crate::nouns::{NOW, NounApi};

db_tests! {
    async fn owners_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.seed_basics().await;
        let owner = json!({"id": "o-1", "name": "Bob", "email": "bob@example.test", "team_id": "t-platform", "created_at": NOW, "updated_at": NOW});
        let said = json!({"id": "o-1", "name": "Bob", "email": "bob@example.test", "team_id": "t-platform"});
        api.post("/api/v1/owners", &said).await.is(201, &owner);
        api.get("/api/v1/owners/o-1").await.is(200, &owner);
        let list = api.get("/api/v1/owners?per_page=1&page=2").await.json();
        assert_eq!((&list["total"], &list["per_page"], list["data"].as_array().map(Vec::len)), (&json!(2), &json!(1), Some(1)));
        api.put("/api/v1/owners/o-1", &json!({"name": "Robert", "email": null, "team_id": "t-platform"})).await
            .is(200, &json!({"id": "o-1", "name": "Robert", "email": "", "team_id": "t-platform", "created_at": NOW, "updated_at": NOW}));
        api.delete("/api/v1/owners/o-1").await.is_done();
    }

    async fn refusals_of_owners_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.seed_basics().await;
        let owner = json!({"name": "Bob", "team_id": "t-platform"});
        api.refuses_the_unknown("/api/v1/owners", &owner).await;
        api.reads_only_for_viewers("/api/v1/owners", "o-alice", &owner).await;
        api.post("/api/v1/owners", &json!({"name": "Bob", "team_id": "t-none"})).await
            .is_main(400, "Bad Request", "team_id: does not exist");
        api.post("/api/v1/owners", &json!({"id": "o-alice", "name": "Bob", "team_id": "t-platform"})).await
            .is_main(409, "Conflict", "an owner with the id o-alice exists");
        api.delete("/api/v1/owners/o-alice").await.is_main(409, "Conflict", "certificates belong to this owner");
    }
}
