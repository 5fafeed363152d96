use axum::body::Body;
use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::{
    nouns::{NOW, NounApi},
    support::request,
};

const PATH: &str = "/api/v1/certificates";

async fn api(db: TestDb) -> NounApi {
    db.seed_basics().await;
    NounApi::new(db).await
}

fn body(id: &str) -> Value {
    json!({"id": id, "name": format!("name of {id}"), "common_name": "api.example.test", "owner_id": "o-alice", "team_id": "t-platform",
        "issuer_id": "iss-local", "renewal_policy_id": "rp-standard", "unknown": true})
}

fn over(base: Value, changes: Value) -> Value {
    match (base, changes) {
        (Value::Object(mut all), Value::Object(changes)) => {
            all.extend(changes);
            Value::Object(all)
        }
        other => panic!("both are objects: {other:?}"),
    }
}

impl NounApi {
    async fn renewed(&self, id: &str) {
        let path = format!("{PATH}/{id}/renew");
        assert_eq!(self.post(&path, &Value::Null).await.status, 202);
    }

    /// Ids of the rows of a list.
    async fn listed(&self, query: &str) -> Vec<String> {
        let answer = self.get(&format!("{PATH}?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        let rows = answer.json()["data"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| row["id"].as_str().unwrap_or("").to_owned())
            .collect()
    }
}

db_tests! {
    async fn certificates_over_http(db: TestDb) {
        let api = api(db).await;
        let expected = json!({"id": "mc-1", "name": "name of mc-1", "common_name": "api.example.test", "sans": ["a.example.test"],
            "environment": "production", "owner_id": "o-alice", "team_id": "t-platform", "issuer_id": "iss-local", "target_ids": ["tgt-web"],
            "renewal_policy_id": "rp-standard", "certificate_profile_id": "prof-standard-tls", "status": "Pending",
            "expires_at": "0001-01-01T00:00:00Z", "tags": {"app": "api"}, "source": "API", "created_at": NOW, "updated_at": NOW});
        let sent = over(body("mc-1"), json!({"sans": ["a.example.test"], "environment": "production", "target_ids": ["tgt-web"],
            "certificate_profile_id": "prof-standard-tls", "tags": {"app": "api"}}));
        let made = api.post(PATH, &sent).await;
        let source = made.json()["source"].clone();
        made.is(201, &over(expected.clone(), json!({"source": source})));
        api.get(&format!("{PATH}/mc-1")).await.is(200, &made.json());
        let changed = api.put(&format!("{PATH}/mc-1"), &json!({"name": "renamed", "owner_id": "", "sans": []})).await;
        changed.is(200, &over(made.json(), json!({"name": "renamed", "sans": []})));
        api.get(&format!("{PATH}/mc-1/versions")).await.is(200, &json!({"data": [], "total": 0, "page": 1, "per_page": 50}));
        let mapped = api.get(&format!("{PATH}/mc-1/deployments")).await.json();
        assert_eq!((&mapped["total"], &mapped["data"][0]["id"]), (&json!(1), &json!("tgt-web")));
        api.delete(&format!("{PATH}/mc-1")).await.is_done();
        api.delete(&format!("{PATH}/mc-1")).await.is_done();
        assert_eq!(api.get(&format!("{PATH}/mc-1")).await.json()["status"], "Archived");
    }

    async fn what_is_wrong_is_said_with_its_field(db: TestDb) {
        let api = api(db).await;
        for (change, message) in [
            (json!({"name": ""}), "name: is required"),
            (json!({"owner_id": "o-gone"}), "owner_id: does not exist"),
            (json!({"team_id": "t-gone"}), "team_id: does not exist"),
            (json!({"issuer_id": "iss-gone"}), "issuer_id: does not exist"),
            (json!({"renewal_policy_id": "rp-gone"}), "renewal_policy_id: does not exist"),
            (json!({"certificate_profile_id": "prof-gone"}), "certificate_profile_id: does not exist"),
            (json!({"target_ids": ["tgt-gone"]}), "target_ids: target tgt-gone does not exist"),
        ] {
            api.post(PATH, &over(body("mc-1"), change)).await.is_main(400, "Bad Request", message);
        }
        for change in [json!({"sans": "text"}), json!({"tags": []}), json!({"expires_at": "soon"}), json!({"common_name": "a b"}), json!({"status": "Asleep"})] {
            let field = change.as_object().unwrap().keys().next().unwrap().clone();
            let answer = api.post(PATH, &over(body("mc-1"), change)).await;
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(answer.status == 400 && message.starts_with(&field), "{message}");
        }
        api.post(PATH, &over(body("mc-1"), json!({"name": "name-mc-web"}))).await
            .is_main(409, "Conflict", "a certificate named \"name-mc-web\" or with this id exists");
        for path in ["mc-gone", "not%20an%20id", "mc-gone/versions", "mc-gone/deployments", "mc-gone/export/pem"] {
            assert_eq!(api.get(&format!("{PATH}/{path}")).await.status, 404, "{path}");
        }
        for path in ["renew", "deploy", "revoke"] {
            assert_eq!(api.post(&format!("{PATH}/mc-gone/{path}"), &Value::Null).await.status, 404, "{path}");
        }
        assert_eq!(api.put(&format!("{PATH}/mc-gone"), &json!({})).await.status, 404);
        assert_eq!(api.delete(&format!("{PATH}/mc-gone")).await.status, 404);
    }

    async fn lists_are_filtered_ordered_and_reduced(db: TestDb) {
        let api = api(db).await;
        for (id, change) in [
            ("mc-1", json!({"name": "c", "status": "Active", "environment": "staging", "expires_at": "2026-07-01T00:00:00Z"})),
            ("mc-2", json!({"name": "a", "status": "Failed", "target_ids": ["tgt-web"], "expires_at": "2026-08-01T00:00:00Z"})),
            ("mc-3", json!({"name": "b", "certificate_profile_id": "prof-standard-tls", "common_name": "z.example.test"})),
        ] {
            assert_eq!(api.post(PATH, &over(body(id), change)).await.status, 201);
        }
        for (query, ids) in [
            ("status=aCtIvE", &["mc-1"] as &[_]),
            ("status=Asleep", &[]),
            ("environment=staging", &["mc-1"]),
            ("owner_id=o-gone", &[]),
            ("team_id=t-platform&status=Failed", &["mc-2"]),
            ("profile_id=prof-standard-tls&sort=name", &["mc-3", "mc-web"]),
            ("agent_id=ag-web&sort=-name", &["mc-web", "mc-2"]),
            ("agent_id=no%20id", &[]),
            ("expires_before=2026-07-15T00:00:00Z", &["mc-1"]),
            ("expires_before=0001-01-01T00:00:00Z", &[]),
            ("expires_after=2026-07-15T00:00:00Z", &["mc-2"]),
            ("expires_after=whenever&sort=name", &["mc-2", "mc-3", "mc-1", "mc-web"]),
            ("sort=-name&per_page=2", &["mc-web", "mc-1"]),
            ("sort=name&sort_desc=true&page=2&page_size=3", &["mc-2"]),
            ("sort=commonName&page_size=9999&per_page=1", &["mc-1"]),
            ("sort=notAfter&per_page=2", &["mc-1", "mc-2"]),
            ("created_after=2027-01-01T00:00:00Z", &[]),
        ] {
            assert_eq!(api.listed(query).await, ids, "{query}");
        }
        let reduced = api.get(&format!("{PATH}?fields=id,%20status,nonsense&status=Active")).await.json();
        assert_eq!(reduced["data"], json!([{"id": "mc-1", "status": "Active"}]));
        assert_eq!(reduced["total"], 1);
    }

    async fn a_cursor_walks_over_ties_and_says_when_it_is_done(db: TestDb) {
        let api = api(db).await;
        for number in 0..6 {
            api.post(PATH, &body(&format!("mc-{number}"))).await;
        }
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        for page in 0.. {
            assert!(page < 10, "it ends");
            let answer = api.get(&format!("{PATH}?cursor={cursor}&page_size=3&sort=name&fields=id")).await.json();
            assert_eq!((&answer["total"], &answer["page_size"]), (&json!(7), &json!(3)));
            seen.extend(answer["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()));
            match answer.get("next_cursor") {
                Some(next) => cursor = next.as_str().unwrap().to_owned(),
                None => break,
            }
        }
        let mut unlike = seen.clone();
        unlike.sort();
        unlike.dedup();
        assert_eq!((seen.len(), unlike.len()), (7, 7), "{seen:?}");
        let nul = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, "2026-06-01T00:00:00Z|mc-\0");
        let nothing = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, "2026-06-01T00:00:00Z|");
        for wrong in ["nonsense!", "bm9uc2Vuc2U", "MjAyNi0wNi0wMVQwMDowMDowMFo", &nul, &nothing] {
            api.get(&format!("{PATH}?cursor={wrong}&status=NoSuchState")).await
                .is_main(400, "Bad Request", "the query is not valid: cursor: is not one that this API made");
            api.get(&format!("{PATH}?cursor={wrong}")).await.is_main(400, "Bad Request", "the query is not valid: cursor: is not one that this API made");
        }
        let empty = api.get(&format!("{PATH}?cursor=&status=Revoked")).await;
        empty.is(200, &json!({"data": [], "total": 0, "page_size": 50}));
        let unknown = api.get(&format!("{PATH}?cursor=&status=NoSuchState&page_size=7")).await;
        unknown.is(200, &json!({"data": [], "total": 0, "page_size": 7}));
    }

    async fn a_nul_in_a_parameter_and_a_second_value_are_refused_by_name(db: TestDb) {
        let api = api(db).await;
        for (path, name) in [
            (format!("{PATH}?environment=%00"), "environment"),
            (format!("{PATH}?owner_id=o-%00x"), "owner_id"),
            ("/api/v1/audit?resource_id=a%00".to_owned(), "resource_id"),
            ("/api/v1/teams?page=%00".to_owned(), "page"),
        ] {
            let refused = format!("the query is not valid: {name}: contains a NUL character");
            api.get(&path).await.is_main(400, "Bad Request", &refused);
        }
        for name in ["page", "status", "anything"] {
            let refused = format!("the query is not valid: {name}: is given more than once");
            api.get(&format!("{PATH}?{name}=1&x=2&{name}=3")).await.is_main(400, "Bad Request", &refused);
        }
        let early = json!({"expires_at": "-004713-06-01T00:00:00Z"});
        let refused = api.post(PATH, &early).await;
        assert_eq!(refused.status, 400, "{refused:?}");
    }

    async fn an_unchanged_list_is_not_sent_again(db: TestDb) {
        let api = api(db).await;
        let first = api.get(PATH).await;
        let tag = first.header("etag").unwrap().to_owned();
        let again = async || {
            let asked = request("GET", PATH, certctl_testkit::services::ADMIN_KEY).header("if-none-match", &tag).body(Body::empty()).unwrap();
            api.send(asked).await
        };
        let same = again().await;
        assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, Some(tag.as_str())));
        api.post(PATH, &body("mc-1")).await;
        let changed = again().await;
        assert_eq!((changed.status, changed.json()["total"].clone()), (200, json!(2)));
    }

    async fn a_certificate_lives_its_life_over_http(db: TestDb) {
        let api = api(db).await;
        let at = |rest: &str| format!("{PATH}/mc-web/{rest}");
        api.post(&at("deploy"), &Value::Null).await.is_main(409, "Conflict", "nothing is issued for this certificate yet");
        api.get(&at("export/pem")).await.is_main(404, "Not Found", "issued version of certificate mc-web does not exist");
        api.post(&at("revoke"), &Value::Null).await.is_main(404, "Not Found", "issued version of certificate mc-web does not exist");
        let first = api.post(&at("renew"), &Value::Null).await;
        let job = first.json()["job_id"].clone();
        first.is(202, &json!({"status": "renewal_triggered", "job_id": job}));
        api.post(&at("renew"), &json!({})).await.is_main(409, "Conflict", "a renewal of this certificate is under way");
        for (path, sent) in [("renew", json!({"force": true})), ("renew?force=1", Value::Null), ("renew?force=true", json!({"force": false}))] {
            api.post(&at(path), &sent).await.is(202, &json!({"status": "renewal_triggered", "job_id": job}));
        }
        let key = certctl_testkit::pki::key::PrivateKey::generate(certctl_domain::key::KeySpec::EcdsaP256).unwrap();
        let san = certctl_domain::name::SubjectAltName::parse("mc-web.example.test").unwrap();
        let csr = certctl_testkit::pki::csr::CsrBuilder::new("mc-web.example.test").sans(vec![san]).sign_pem(&key).unwrap();
        api.post("/api/v1/agents/ag-web/csr", &json!({"csr_pem": csr})).await.is(202, &json!({"status": "csr_accepted"}));
        api.work().await;
        let versions = api.get(&at("versions")).await.json();
        let version = &versions["data"][0];
        assert_eq!((&versions["total"], &version["certificate_id"], &version["key_algorithm"]), (&json!(1), &json!("mc-web"), &json!("ECDSA")));
        assert_eq!(api.get(&format!("{PATH}/mc-web")).await.json()["expires_at"], version["not_after"]);
        let export = api.get(&at("export/pem")).await.json();
        assert_eq!(export["full_pem"], version["pem_chain"]);
        let file = api.get(&at("export/pem?download=true")).await;
        assert_eq!((file.header("content-type"), file.header("content-disposition")), (Some("application/x-pem-file"), Some("attachment; filename=\"certificate.pem\"")));
        assert_eq!(file.body, version["pem_chain"].as_str().unwrap().as_bytes());
        api.post(&at("deploy"), &json!({"target_id": "tgt-other"})).await.is_main(400, "Bad Request", "target_id: the certificate is not mapped to this target");
        api.post(&at("deploy"), &json!({"target_id": "tgt-web"})).await.is(202, &json!({"status": "deployment_triggered"}));
        let bad = api.post(&at("revoke"), &json!({"reason": "bored"})).await;
        assert!(bad.status == 400 && bad.json()["message"].as_str().unwrap().starts_with("reason: "), "{bad:?}");
        api.post(&at("revoke"), &json!({"reason": "keyCompromise"})).await.is(200, &json!({"status": "revoked"}));
        api.post(&at("revoke"), &Value::Null).await.is_main(400, "Bad Request", "a certificate that is Revoked cannot be revoked");
        let revoked = api.get(&format!("{PATH}/mc-web")).await.json();
        assert_eq!((&revoked["status"], &revoked["revocation_reason"], &revoked["revoked_at"]), (&json!("Revoked"), &json!("keyCompromise"), &json!(NOW)));
        api.post(&at("renew"), &json!({"force": true})).await.is_main(400, "Bad Request", "a certificate that is Revoked cannot be renewed");
    }

    async fn a_gated_renewal_names_its_approval(db: TestDb) {
        let api = api(db).await;
        api.db.execute("UPDATE certificate_profiles SET requires_approval = true").await.unwrap();
        let answer = api.post(&format!("{PATH}/mc-web/renew"), &Value::Null).await.json();
        let id = answer["approval_id"].as_str().unwrap();
        assert_eq!(api.db.text("SELECT id AS value FROM issuance_approval_requests").await, id);
        assert!(id.starts_with("ar-"), "{id}");
    }

    async fn exports_end_for_an_hour_at_the_limit(db: TestDb) {
        let api = api(db).await;
        api.renewed("mc-web").await;
        let version = "INSERT INTO certificate_versions (id, certificate_id, issuer_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain, csr_pem, key_algorithm, key_size, created_at) \
            SELECT 'cv-1', id, issuer_id, '1f', created_at, created_at, 'f', 'nonsense', '', 'ECDSA', 256, created_at FROM managed_certificates";
        api.db.execute(version).await.unwrap();
        let path = format!("{PATH}/mc-web/export/pem");
        for _ in 0..50 {
            api.get(&path).await.is_main(422, "Unprocessable Entity", "the stored chain cannot be read");
        }
        let limited = api.get(&path).await;
        limited.is(429, &json!({"error": "rate_limit_exceeded", "retry_after_seconds": 3600}));
        assert_eq!(limited.header("retry-after"), Some("3600"));
    }

    async fn a_trust_store_needs_an_issued_version(db: TestDb) {
        let api = api(db).await;
        let path = format!("{PATH}/mc-web/export/pkcs12");
        assert_eq!(api.post(&path, &Value::Null).await.status, 404);
        assert_eq!(api.post(&path, &json!({"password": 1})).await.status, 400);
        let answer = api.post(&path, &json!({"password": "\u{1f511}"})).await;
        assert!(answer.status == 400 && answer.json()["message"].as_str().unwrap().starts_with("password"), "{answer:?}");
    }
}
