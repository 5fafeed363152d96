use std::collections::BTreeMap;

use certctl_domain::{
    acme::{
        AccountStatus, AcmeAccountId, AcmeAuthorizationId, AcmeChallengeId, AcmeOrderId,
        AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier,
    },
    id::{CertificateId, IssuerId, ProfileId},
    profile::AcmeAuthMode,
};
use serde_json::{Value, json};

use super::*;
use crate::urls::Family;

const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_123_456);
const BASE: &str = "https://ca.example/acme";

fn urls() -> Urls {
    Urls::new("https://ca.example", Family::Shorthand)
}

fn json_of(body: &impl Serialize) -> Value {
    serde_json::to_value(body).unwrap()
}

fn account_id() -> AcmeAccountId {
    AcmeAccountId::from_digest(&"A".repeat(43))
}

fn order() -> Order {
    Order {
        id: AcmeOrderId::from_random([0; 10]),
        account_id: account_id(),
        profile_id: ProfileId::parse("prof-web").unwrap(),
        issuer_id: IssuerId::parse("iss-local").unwrap(),
        auth_mode: AcmeAuthMode::TrustAuthenticated,
        identifiers: vec![
            Identifier::dns("*.a.example").unwrap(),
            Identifier::ip("192.0.2.1").unwrap(),
        ],
        status: OrderStatus::Ready,
        expires_at: NOW,
        not_before: None,
        not_after: None,
        error: None,
        csr_pem: None,
        certificate_id: None,
        job_id: None,
        replaces: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn challenge() -> Challenge {
    Challenge {
        id: AcmeChallengeId::from_random([0; 10]),
        authorization_id: AcmeAuthorizationId::from_random([0; 10]),
        challenge_type: ChallengeType::Dns01,
        status: ChallengeStatus::Pending,
        token: "token".to_owned(),
        validated_at: None,
        error: None,
        created_at: NOW,
    }
}

#[test]
fn a_directory_has_what_there_is_and_no_empty_meta() {
    let plain = DirectoryBody::new(&urls(), false, DirectoryMeta::default());
    let expected = json!({
        "newNonce": format!("{BASE}/new-nonce"),
        "newAccount": format!("{BASE}/new-account"),
        "newOrder": format!("{BASE}/new-order"),
        "revokeCert": format!("{BASE}/revoke-cert"),
        "keyChange": format!("{BASE}/key-change"),
    });
    assert_eq!(json_of(&plain), expected);
    let meta = DirectoryMeta {
        terms_of_service: Some("https://ca.example/terms".to_owned()),
        website: Some("https://ca.example".to_owned()),
        caa_identities: vec!["ca.example".to_owned()],
        external_account_required: true,
        profiles: BTreeMap::from([("web".to_owned(), "for the web".to_owned())]),
    };
    let full = json_of(&DirectoryBody::new(&urls(), true, meta));
    assert_eq!(full["renewalInfo"], format!("{BASE}/renewal-info"));
    let expected = json!({
        "termsOfService": "https://ca.example/terms",
        "website": "https://ca.example",
        "caaIdentities": ["ca.example"],
        "externalAccountRequired": true,
        "profiles": { "web": "for the web" },
    });
    assert_eq!(full["meta"], expected);
}

#[test]
fn an_account_leaves_out_what_it_does_not_have() {
    let mut account = Account {
        id: account_id(),
        thumbprint: "t".to_owned(),
        jwk_pem: "p".to_owned(),
        contact: Vec::new(),
        status: AccountStatus::Valid,
        profile_id: ProfileId::parse("prof-web").unwrap(),
        owner_id: None,
        terms_agreed: false,
        created_at: NOW,
        updated_at: NOW,
    };
    let orders = format!("{BASE}/account/{}/orders", account_id());
    let expected = json!({ "status": "valid", "orders": orders });
    assert_eq!(json_of(&AccountBody::new(&account, &urls())), expected);
    account.contact = vec!["mailto:a@example.com".to_owned()];
    account.terms_agreed = true;
    account.status = AccountStatus::Deactivated;
    let expected = json!({
        "status": "deactivated", "contact": ["mailto:a@example.com"],
        "termsOfServiceAgreed": true, "orders": orders,
    });
    assert_eq!(json_of(&AccountBody::new(&account, &urls())), expected);
}

#[test]
fn an_order_names_its_authorizations_and_times_in_whole_seconds() {
    let authorization = AcmeAuthorizationId::from_random([0; 10]);
    let body = json_of(&OrderBody::new(&order(), [&authorization], &urls()));
    let expected = json!({
        "status": "ready",
        "expires": "2026-09-21T14:13:20Z",
        "identifiers": [{ "type": "dns", "value": "*.a.example" }, { "type": "ip", "value": "192.0.2.1" }],
        "authorizations": [format!("{BASE}/authz/acme-authz-0000000000000000")],
        "finalize": format!("{BASE}/order/acme-ord-0000000000000000/finalize"),
        "profile": "prof-web",
    });
    assert_eq!(body, expected);
}

#[test]
fn an_order_has_a_certificate_only_when_it_is_valid() {
    let mut order = order();
    order.certificate_id = Some(CertificateId::parse("mc-acme-1").unwrap());
    for status in OrderStatus::ALL {
        order.status = *status;
        let body = json_of(&OrderBody::new(&order, [], &urls()));
        let expected = (*status == OrderStatus::Valid).then(|| format!("{BASE}/cert/mc-acme-1"));
        assert_eq!(
            body.get("certificate").and_then(Value::as_str),
            expected.as_deref(),
            "{status}"
        );
    }
}

#[test]
fn an_order_shows_what_was_asked_and_what_went_wrong() {
    let mut order = order();
    order.not_before = Some(NOW);
    order.not_after = Some(NOW);
    order.replaces = Some("AA.AQ".to_owned());
    order.error = Some(Problem::new(ProblemType::BadCsr, "no"));
    let body = json_of(&OrderBody::new(&order, [], &urls()));
    assert_eq!(body["notBefore"], "2026-09-21T14:13:20Z");
    assert_eq!(body["notAfter"], body["notBefore"]);
    assert_eq!(body["replaces"], "AA.AQ");
    assert_eq!(body["error"]["type"], "urn:ietf:params:acme:error:badCSR");
}

#[test]
fn an_authorization_carries_its_challenges() {
    let mut authorization = Authorization {
        id: AcmeAuthorizationId::from_random([0; 10]),
        order_id: AcmeOrderId::from_random([0; 10]),
        identifier: Identifier::dns("a.example").unwrap(),
        wildcard: true,
        status: AuthorizationStatus::Pending,
        expires_at: NOW,
        created_at: NOW,
        updated_at: NOW,
    };
    let pending = challenge();
    let body = json_of(&AuthorizationBody::new(&authorization, [&pending], &urls()));
    let expected = json!({
        "identifier": { "type": "dns", "value": "a.example" },
        "status": "pending",
        "expires": "2026-09-21T14:13:20Z",
        "wildcard": true,
        "challenges": [{
            "type": "dns-01", "status": "pending", "token": "token",
            "url": format!("{BASE}/challenge/acme-chall-0000000000000000"),
        }],
    });
    assert_eq!(body, expected);
    authorization.wildcard = false;
    let body = json_of(&AuthorizationBody::new(&authorization, [], &urls()));
    assert_eq!(body.get("wildcard"), None);
}

#[test]
fn a_challenge_says_when_it_was_proved_or_why_not() {
    let mut proved = challenge();
    proved.validated_at = Some(NOW);
    let body = json_of(&ChallengeBody::new(&proved, &urls()));
    assert_eq!(body["validated"], "2026-09-21T14:13:20Z");
    let mut failed = challenge();
    failed.error = Some(Problem::new(ProblemType::Connection, "refused"));
    let body = json_of(&ChallengeBody::new(&failed, &urls()));
    let expected = json!({ "type": "urn:ietf:params:acme:error:connection", "detail": "refused", "status": 400 });
    assert_eq!(body["error"], expected);
}

#[test]
fn a_page_of_orders_is_a_list_of_urls() {
    let id = AcmeOrderId::from_random([0; 10]);
    let body = json_of(&OrdersBody::new([&id], &urls()));
    assert_eq!(body, json!({ "orders": [format!("{BASE}/order/{id}")] }));
}

#[test]
fn renewal_info_is_a_window() {
    let window = Window {
        start: NOW,
        end: Timestamp::from_seconds(1_790_000_001),
    };
    let expected = json!({
        "suggestedWindow": { "start": "2026-09-21T14:13:20Z", "end": "2026-09-21T14:13:21Z" },
    });
    assert_eq!(json_of(&RenewalInfoBody::new(window, None)), expected);
    let explained = json_of(&RenewalInfoBody::new(
        window,
        Some("https://why.example".to_owned()),
    ));
    assert_eq!(explained["explanationURL"], "https://why.example");
}

#[test]
fn a_problem_has_type_detail_and_status() {
    for kind in ProblemType::ALL {
        let body = json_of(&ProblemBody::new(&Problem::new(*kind, "why")));
        assert_eq!(
            body["type"],
            format!("urn:ietf:params:acme:error:{}", kind.as_str())
        );
        assert_eq!(
            (&body["detail"], &body["status"]),
            (&json!("why"), &json!(kind.status()))
        );
    }
}

#[test]
fn a_bad_algorithm_is_answered_with_the_good_ones() {
    let bad = Problem::new(ProblemType::BadSignatureAlgorithm, "why");
    let algorithms = &json_of(&ProblemBody::new(&bad))["algorithms"];
    assert_eq!(*algorithms, json!(["RS256", "ES256", "ES384", "EdDSA"]));
    let other = Problem::new(ProblemType::BadCsr, "why");
    assert_eq!(json_of(&ProblemBody::new(&other)).get("algorithms"), None);
}

#[test]
fn subproblems_name_their_identifiers() {
    let name = Identifier::dns("a.example").unwrap();
    let problem = Problem {
        subproblems: vec![Subproblem::of(ProblemType::Caa, "forbidden", &name)],
        ..Problem::new(ProblemType::Compound, "why")
    };
    let expected = json!([{
        "type": "urn:ietf:params:acme:error:caa", "detail": "forbidden",
        "identifier": { "type": "dns", "value": "a.example" },
    }]);
    assert_eq!(
        json_of(&ProblemBody::new(&problem))["subproblems"],
        expected
    );
}
