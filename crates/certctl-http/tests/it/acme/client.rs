//! A client that signs, and the API it asks.

use std::time::Duration;

use axum::body::Body;
use certctl_acme::client::Signer;
use certctl_domain::{
    id::{IssuerId, OwnerId, ProfileId, RenewalPolicyId, TeamId},
    key::KeySpec,
};
use certctl_http::HttpSettings;
use certctl_service::acme::AcmeConfig;
use certctl_testkit::{TestDb, pki::key::PrivateKey};
use http::Request;
use serde_json::{Value, json};

use crate::{nouns::NounApi, support::Answer};

/// The host that is asked.
pub(super) const ORIGIN: &str = "https://ca.example:8443";
/// The profile behind both families.
pub(super) const PROFILE: &str = "prof-front";

/// How the ACME server of these tests behaves.
pub(super) fn config() -> AcmeConfig {
    AcmeConfig {
        default_profile: Some(ProfileId::parse(PROFILE).unwrap()),
        owner: Some(OwnerId::parse("o-alice").unwrap()),
        team: Some(TeamId::parse("t-platform").unwrap()),
        renewal_policy: Some(RenewalPolicyId::parse("rp-standard").unwrap()),
        issuer: Some(IssuerId::parse("iss-local").unwrap()),
        // Jobs are run by the test, when it says so.
        finalize_wait: Duration::ZERO,
        // Step by step.
        lanes: 0,
        ..AcmeConfig::default()
    }
}

/// The API with an ACME server and a profile that believes its accounts.
pub(super) async fn api(db: TestDb, settings: HttpSettings, acme: Option<AcmeConfig>) -> NounApi {
    db.seed_basics().await;
    let api = NounApi::with_settings(db, settings, |config| config.acme = acme).await;
    let made = api
        .post(
            "/api/v1/profiles",
            &json!({"id": PROFILE, "name": "front", "acme_auth_mode": "trust_authenticated"}),
        )
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    api
}

/// Without limits, and otherwise as usual.
pub(super) fn settings() -> HttpSettings {
    HttpSettings {
        rate_limits: None,
        ..HttpSettings::default()
    }
}

/// A request without a signature.
pub(super) async fn get(api: &NounApi, method: &str, path: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "ca.example:8443");
    api.send(request.body(Body::empty()).unwrap()).await
}

/// A signed request as it is sent.
pub(super) async fn post(api: &NounApi, path: &str, body: String) -> Answer {
    let request = Request::builder()
        .method("POST")
        .uri(path)
        .header("host", "ca.example:8443")
        .header("content-type", "application/jose+json");
    api.send(request.body(Body::from(body)).unwrap()).await
}

/// Checks for a problem document, and that it carries what every signed reply does.
#[track_caller]
pub(super) fn is_problem(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer:?}"
    );
    let body = answer.json();
    let expected = match kind {
        "about:blank" => kind.to_owned(),
        kind => format!("urn:ietf:params:acme:error:{kind}"),
    };
    assert_eq!(body["type"], expected, "{body}");
    assert_eq!(body["status"], status, "{body}");
    assert!(body["detail"].is_string(), "{body}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("x-request-id").is_some() && answer.header("x-frame-options").is_some());
}

pub(super) struct Client<'a> {
    pub(super) api: &'a NounApi,
    pub(super) signer: Signer,
    /// Before the suffixes: `/acme/` or that of a profile.
    family: String,
    pub(super) kid: String,
}

impl<'a> Client<'a> {
    pub(super) fn new(api: &'a NounApi, family: &str) -> Self {
        Self {
            api,
            signer: Signer::new(PrivateKey::generate(KeySpec::EcdsaP256).unwrap()).unwrap(),
            family: family.to_owned(),
            kid: String::new(),
        }
    }

    pub(super) fn path(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.family)
    }

    pub(super) fn url(&self, suffix: &str) -> String {
        format!("{ORIGIN}{}", self.path(suffix))
    }

    pub(super) async fn nonce(&self) -> String {
        let answer = get(self.api, "GET", &self.path("new-nonce")).await;
        answer.header("replay-nonce").unwrap().to_owned()
    }

    /// Makes the account, and remembers where it is.
    pub(super) async fn register(&mut self, payload: &Value) -> Answer {
        let (url, nonce) = (self.url("new-account"), self.nonce().await);
        let body = self
            .signer
            .sign_with_jwk(&url, Some(&nonce), &payload.to_string())
            .unwrap();
        let answer = post(self.api, &self.path("new-account"), body).await;
        self.carries_what_signed_answers_do(&answer);
        if let Some(kid) = answer.header("location") {
            self.kid = kid.to_owned();
        }
        answer
    }

    /// A signed request of the account; an empty payload makes it POST-as-GET.
    pub(super) async fn ask(&self, suffix: &str, payload: &str) -> Answer {
        let nonce = self.nonce().await;
        let body = self
            .signer
            .sign(&self.kid, &self.url(suffix), &nonce, payload)
            .unwrap();
        let answer = post(self.api, &self.path(suffix), body).await;
        self.carries_what_signed_answers_do(&answer);
        answer
    }

    /// Whatever is answered to a signed request carries a nonce and the way to the directory, and is not kept by caches
    /// (acme-server §1).
    #[track_caller]
    pub(super) fn carries_what_signed_answers_do(&self, answer: &Answer) {
        assert!(answer.header("replay-nonce").is_some(), "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let index = format!("<{}>;rel=\"index\"", self.url("directory"));
        let mut links = answer.headers.get_all("link").iter();
        assert!(links.any(|link| link == index.as_str()), "{answer:?}");
    }

    /// What follows the family in a URL that was answered.
    #[track_caller]
    pub(super) fn suffix(&self, url: &str) -> String {
        let whole = format!("{ORIGIN}{}", self.family);
        url.strip_prefix(&whole)
            .unwrap_or_else(|| panic!("{url} is not below {whole}"))
            .to_owned()
    }
}
