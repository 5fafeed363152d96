use certctl_testkit::{TestDb, db_tests};
use serde_json::json;

use crate::nouns::{NOW, NounApi};

db_tests! {
    async fn teams_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        let team = json!({"id": "t-1", "name": "Platform", "description": "who runs it", "created_at": NOW, "updated_at": NOW});
        api.post("/api/v1/teams", &json!({"id": "t-1", "name": "Platform", "description": "who runs it", "color": "red"})).await.is(201, &team);
        api.get("/api/v1/teams/t-1").await.is(200, &team);
        api.get("/api/v1/teams").await.is(200, &json!({"data": [team], "total": 1, "page": 1, "per_page": 50}));
        api.get("/api/v1/teams?page=2&per_page=10").await.is(200, &json!({"data": [], "total": 1, "page": 2, "per_page": 10}));
        api.put("/api/v1/teams/t-1", &json!({"name": "Network"})).await
            .is(200, &json!({"id": "t-1", "name": "Network", "description": "", "created_at": NOW, "updated_at": NOW}));
        api.delete("/api/v1/teams/t-1").await.is_done();
        assert_eq!(api.get("/api/v1/teams/t-1").await.status, 404);
    }

    async fn refusals_of_teams_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.seed_basics().await;
        api.refuses_the_unknown("/api/v1/teams", &json!({"name": "x"})).await;
        api.reads_only_for_viewers("/api/v1/teams", "t-platform", &json!({"name": "x"})).await;
        api.post("/api/v1/teams", &json!({"name": " "})).await.is_main(400, "Bad Request", "name: is required");
        api.post("/api/v1/teams", &json!({"name": "name-t-platform"})).await
            .is_main(409, "Conflict", "a team named \"name-t-platform\" or with this id exists");
        api.delete("/api/v1/teams/t-platform").await.is_main(409, "Conflict", "owners or certificates belong to this team");
    }
}
