//! Accounts: made once for a key, bound, changed, given up, and given another key.

use certctl_acme::client::Signer;
use certctl_service::acme::AcmeConfig;
use certctl_testkit::{Basics, TestDb, db_tests};
use serde_json::json;

use super::kit::{Client, Server, acme_config, body, key, problem};
use crate::{kit::actor, support::outcome};

pub(super) async fn change(
    client: &Client,
    payload: serde_json::Value,
) -> Result<certctl_service::acme::AccountAnswer, certctl_service::acme::Refusal> {
    let url = client.urls.at(&format!("account/{}", client.id));
    client
        .acme
        .account(client.post(&url, &payload).await, &client.id)
        .await
}

pub(super) async fn roll(
    client: &Client,
    to: &Signer,
) -> Result<certctl_service::acme::AccountAnswer, certctl_service::acme::Refusal> {
    let url = client.urls.key_change();
    let inner = to
        .change_from(client.signer.jwk(), &client.kid, &url)
        .unwrap();
    let body = client
        .signer
        .sign(&client.kid, &url, &client.nonce().await, &inner)
        .unwrap();
    client.acme.key_change(client.request(&url, body)).await
}

db_tests! {
    async fn a_key_has_one_account(db: TestDb) {
        let server = Server::new(db).await;
        let mut client = server.stranger();
        assert_eq!(problem(client.register(json!({"onlyReturnExisting": true})).await), "400 accountDoesNotExist");
        let made = client.register(json!({"contact": ["mailto:a@example.test"], "termsOfServiceAgreed": true})).await.unwrap();
        assert_eq!((made.created, body(&made.account)), (true, json!({
            "status": "valid", "contact": ["mailto:a@example.test"], "termsOfServiceAgreed": true,
            "orders": format!("{}/orders", client.kid),
        })));
        let again = client.register(json!({"contact": ["mailto:b@example.test"]})).await.unwrap();
        assert_eq!((again.created, again.account, again.id), (false, made.account, made.id), "nothing is changed by asking again");
        client.register(json!({"onlyReturnExisting": true})).await.unwrap();
    }

    async fn accounts_made_at_the_same_moment_are_one(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.stranger();
        let made = futures_util::future::join_all((0..8).map(|_| async {
            client.acme.new_account(client.post_jwk(&client.urls.new_account(), &json!({})).await).await.unwrap()
        })).await;
        assert_eq!(made.iter().filter(|one| one.created).count(), 1);
        assert!(made.iter().all(|one| one.id == made[0].id));
    }

    async fn contacts_are_replaced_and_accounts_given_up(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap().id.to_string();
        let changed = change(&client, json!({"contact": ["mailto:c@example.test"]})).await.unwrap();
        assert_eq!(body(&changed.account)["contact"], json!(["mailto:c@example.test"]));
        let by = server.world.db.text("SELECT actor AS value FROM audit_events WHERE action = 'acme_account_updated'").await;
        assert_eq!(by, format!("acme:{}", client.id));
        assert_eq!(body(&change(&client, json!(null)).await.unwrap().account), body(&changed.account));
        assert_eq!(problem(change(&client, json!({"status": "valid"})).await), "400 malformed");
        assert_eq!(problem(change(&client, json!({"contact": ["tel:1"]})).await), "400 unsupportedContact");
        let ended = change(&client, json!({"status": "deactivated", "contact": ["tel:1"]})).await.unwrap();
        assert_eq!(body(&ended.account)["status"], "deactivated");
        assert_eq!(problem(change(&client, json!(null)).await), "401 unauthorized");
        assert_eq!(problem(client.show_order(&order).await), "401 unauthorized");
        assert_eq!(server.world.db.text(&format!("SELECT status AS value FROM acme_orders WHERE id = '{order}'")).await, "invalid");
        let mut client = client;
        assert_eq!(problem(client.register(json!({})).await), "401 unauthorized", "the key stays used up");
    }

    async fn terms_must_be_agreed_to_where_there_are_any(db: TestDb) {
        let terms = Some("https://ca.example.test/terms".to_owned());
        let server = Server::with(db, AcmeConfig { terms_url: terms, ..acme_config() }).await;
        let mut client = server.stranger();
        let refused = client.register(json!({})).await.unwrap_err();
        assert_eq!((refused.problem.kind.as_str(), refused.problem.status, refused.link_terms), ("userActionRequired", 403, true));
        assert!(client.register(json!({"termsOfServiceAgreed": true})).await.unwrap().created);
    }

    async fn a_binding_is_good_for_one_account(db: TestDb) {
        let server = Server::with(db, AcmeConfig { eab_required: true, ..acme_config() }).await;
        let (acme, admin) = (server.acme(), &server.world.admin);
        let profile = Basics::default().profile;
        let made = acme.create_eab_key(admin, &profile, Some("kid-1")).await.unwrap();
        let secret = certctl_acme::base64url::decode(made.hmac_key.expose()).unwrap();
        let mut client = server.stranger();
        assert_eq!(problem(client.register(json!({})).await), "403 externalAccountRequired");
        let url = client.urls.new_account();
        let bind = |client: &Client, kid: &str, secret: &[u8]| json!({"externalAccountBinding": client.signer.bind(kid, secret, &url)});
        for bad in [bind(&client, "kid-2", &secret), bind(&client, "kid-1", &[0; 32]), bind(&server.stranger(), "kid-1", &secret)] {
            assert_eq!(problem(client.register(bad).await), "401 unauthorized");
        }
        assert!(client.register(bind(&client, "kid-1", &secret)).await.unwrap().created);
        let listed = acme.list_eab_keys(admin, Default::default()).await.unwrap();
        assert_eq!(listed.rows[0].bound_account_id.as_ref().unwrap().as_str(), client.id);
        let mut second = server.stranger();
        let bound = bind(&second, "kid-1", &secret);
        assert_eq!(problem(second.register(bound).await), "401 unauthorized");
        assert!(!client.register(json!({})).await.unwrap().created, "an account that is there needs no binding");

        let revoked = acme.create_eab_key(admin, &profile, None).await.unwrap();
        let kid = revoked.key.id.as_str().to_owned();
        acme.revoke_eab_key(admin, &kid).await.unwrap();
        acme.revoke_eab_key(admin, &kid).await.unwrap();
        let secret = certctl_acme::base64url::decode(revoked.hmac_key.expose()).unwrap();
        let bound = bind(&second, &kid, &secret);
        assert_eq!(problem(second.register(bound).await), "401 unauthorized");
        assert_eq!(server.world.recorded("acme_eab_key_revoked").await, 1);
    }

    async fn one_binding_at_two_places_at_once_binds_one(db: TestDb) {
        let server = Server::new(db).await;
        let made = server.acme().create_eab_key(&server.world.admin, &Basics::default().profile, Some("kid-1")).await.unwrap();
        let secret = certctl_acme::base64url::decode(made.hmac_key.expose()).unwrap();
        let mut clients: Vec<Client> = (0..6).map(|_| server.stranger()).collect();
        let made = futures_util::future::join_all(clients.iter_mut().map(|client| {
            let bound = json!({"externalAccountBinding": client.signer.bind("kid-1", &secret, &client.urls.new_account())});
            client.register(bound)
        })).await;
        assert_eq!(made.iter().filter(|one| one.is_ok()).count(), 1);
        assert_eq!(server.world.db.texts("SELECT id AS value FROM acme_accounts").await.len(), 1);
    }

    async fn a_key_is_changed_and_the_old_one_dead(db: TestDb) {
        let server = Server::new(db).await;
        let (client, other) = (server.client().await, server.client().await);
        let order = client.order(&["a.example.test"]).await.unwrap().id.to_string();
        let taken = roll(&client, &other.signer).await.unwrap_err();
        assert_eq!((taken.problem.status, taken.problem.kind.as_str(), taken.location.as_deref()), (409, "unauthorized", Some(other.kid.as_str())));
        let new = Signer::new(key()).unwrap();
        assert_eq!(body(&roll(&client, &new).await.unwrap().account)["status"], "valid");
        assert_eq!(problem(client.show_order(&order).await), "401 unauthorized");
        let rolled = Client { signer: new, ..client };
        assert_eq!(rolled.status(&order).await, "ready");
        assert_eq!(server.world.recorded("acme_account_key_rolled").await, 1);
    }

    async fn a_key_that_was_given_up_may_have_another_account(db: TestDb) {
        let server = Server::new(db).await;
        let mut client = server.stranger();
        let first = client.register(json!({})).await.unwrap();
        roll(&client, &Signer::new(key()).unwrap()).await.unwrap();
        let second = client.register(json!({})).await.unwrap();
        assert!(second.created && second.id != first.id);
        client.order(&["a.example.test"]).await.unwrap();
    }

    async fn of_two_key_changes_at_once_one_counts(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let keys: Vec<Signer> = (0..4).map(|_| Signer::new(key()).unwrap()).collect();
        let rolled = futures_util::future::join_all(keys.iter().map(|key| roll(&client, key))).await;
        assert_eq!(rolled.iter().filter(|one| one.is_ok()).count(), 1, "{rolled:?}");
    }

    async fn a_change_at_another_replica_is_heeded(db: TestDb) {
        let server = Server::new(db).await;
        if server.world.db.backend() == certctl_repository::Backend::Sqlite {
            return;
        }
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap().id.to_string();
        let (other, _) = server.world.replica("other:2", super::kit::serving(acme_config()));
        let there = client.at(&other);
        there.show_order(&order).await.unwrap();
        let new = Signer::new(key()).unwrap();
        roll(&there, &new).await.unwrap();
        let old = there.at(&server.world.services);
        assert_eq!(problem(old.show_order(&order).await), "401 unauthorized");
        let rolled = Client { signer: new, ..old };
        assert_eq!(rolled.status(&order).await, "ready");
        let rolled = rolled.at(&other);
        server.acme().revoke_account(&server.world.admin, &rolled.id).await.unwrap();
        assert_eq!(problem(rolled.show_order(&order).await), "401 unauthorized");
    }

    async fn operators_need_permissions(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let nobody = actor("nobody", &[], &certctl_domain::access::Scope::Global);
        let s = server.acme();
        let page = certctl_domain::page::PageRequest::default();
        let outcomes = [
            outcome(s.create_eab_key(&nobody, &client.profile, None).await),
            outcome(s.list_eab_keys(&nobody, page).await),
            outcome(s.revoke_eab_key(&nobody, "x").await),
            outcome(s.list_paused_names(&nobody, page).await),
            outcome(s.unpause_names(&nobody, &client.id).await),
            outcome(s.list_accounts(&nobody, page).await),
            outcome(s.revoke_account(&nobody, &client.id).await),
        ];
        assert!(outcomes.iter().all(|one| one.starts_with("needs profile.")), "{outcomes:?}");
        let admin = &server.world.admin;
        assert_eq!(s.list_accounts(admin, page).await.unwrap().total, 1);
        s.revoke_account(admin, &client.id).await.unwrap();
        assert_eq!(outcome(s.revoke_account(admin, &client.id).await), "conflict");
        assert_eq!(problem(client.order(&["a.example.test"]).await), "401 unauthorized");
        assert_eq!(outcome(s.create_eab_key(admin, &certctl_domain::id::ProfileId::from_stored("prof-none".into()), None).await), "invalid profile_id");
    }
}
