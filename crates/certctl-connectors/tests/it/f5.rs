//! The F5 connector against a stand-in that really serves what its profile names.

use std::{fs, sync::Arc, time::Duration};

use certctl_connectors::{
    deploy::{Engine, Rollback, command::SystemRunner},
    probe::{Endpoint, Prober},
    target::{DeploymentRequest, Error, F5, Means, TargetConnector as _},
};
use certctl_domain::time::{Clock, ManualClock, SystemClock, Timestamp};
use certctl_testkit::{
    ca::{Ca, Pair},
    f5_mock::{Effect, Fault, FullPath, Mock, Options, PairPem},
};
use serde_json::{Value, json};

use crate::web::LIMIT;

const PROFILE: &str = "/mgmt/tm/ltm/profile/client-ssl/~Common~certctl";

/// An appliance whose profile names a pair that certctl did not put there.
struct Appliance {
    mock: Mock,
    ca: Ca,
    first: Pair,
}

impl Appliance {
    async fn start() -> Self {
        let ca = Ca::new("Connector Test Root");
        let first = ca.issue("127.0.0.1");
        let pair = PairPem {
            certificates: first.cert_pem.clone(),
            key: first.key_pem.clone(),
        };
        let options = Options {
            pair: Some(pair),
            ..Options::on_loopback()
        };
        let mock = Mock::start(options).await.unwrap();
        Self { mock, ca, first }
    }

    fn config(&self) -> Value {
        json!({
            "host": "127.0.0.1", "port": self.mock.api().port(),
            "username": "admin", "password": "admin", "ssl_profile": "certctl", "insecure": true, "timeout": "10s",
            "post_deploy_verify": {"endpoint": self.mock.virtual_server().to_string(), "timeout": "5s"},
            "post_deploy_verify_attempts": 2,
            "post_deploy_verify_backoff": "10ms",
        })
    }

    /// Another server is looked at than the one that is deployed to.
    fn misdirected_config(&self) -> Value {
        let mut config = self.config();
        config["post_deploy_verify"]["endpoint"] = json!(self.mock.api().to_string());
        config
    }

    fn request(&self, pair: &Pair) -> DeploymentRequest {
        pair.request(self.config())
    }

    async fn served(&self) -> String {
        let at = Endpoint::parse(&self.mock.virtual_server().to_string()).unwrap();
        let seen = Prober::new().probe(&at, LIMIT).await.unwrap();
        seen.fingerprint_sha256
    }

    fn state(&self) -> Value {
        self.mock.device().dump()
    }

    /// The objects that the profile names.
    fn named(&self) -> [String; 3] {
        let profile = &self.state()["profiles"][0];
        ["cert", "key", "chain"].map(|field| profile[field].as_str().unwrap().to_owned())
    }

    /// How many certificates and keys there are.
    fn objects(&self) -> (usize, usize) {
        let state = self.state();
        let count = |field: &str| state[field].as_array().unwrap().len();
        (count("certificates"), count("keys"))
    }

    fn fault(&self, call: &str, after: usize, effect: Effect) {
        let call = call.to_owned();
        self.mock.device().inject(Fault {
            call,
            after,
            effect,
        });
    }

    /// The calls since a moment, when there were so many.
    fn calls_since(&self, before: usize) -> Vec<String> {
        self.mock.device().calls().split_off(before)
    }
}

fn connector_by(clock: Arc<dyn Clock>) -> F5 {
    F5::new(Means {
        engine: Engine::new(clock),
        runner: SystemRunner::shared(),
        prober: Prober::new(),
    })
}

fn connector() -> F5 {
    connector_by(Arc::new(SystemClock))
}

#[tokio::test]
async fn a_new_pair_is_served_and_a_second_time_nothing_is_done() {
    let f5 = Appliance::start().await;
    assert_eq!(f5.served().await, f5.first.fingerprint);
    let pair = f5.ca.issue("second.example");
    let request = f5.request(&pair);
    let result = connector().deploy(&request).await.unwrap();
    assert!(!result.idempotent && result.verified);
    assert!(result.deployment_id.starts_with("f5-"));
    assert_eq!(f5.served().await, pair.fingerprint);

    let named = f5.named();
    for (name, part) in named.iter().zip(["cert", "key", "chain"]) {
        let digits = name
            .strip_prefix(&format!("/Common/certctl-{part}-"))
            .unwrap();
        assert_eq!(digits.len(), 19, "{name}");
        assert_eq!(result.metadata[&format!("{part}_object")], *name);
    }
    // What was there before is not ours to remove; leaf and chain came on top, and the key.
    assert_eq!(f5.objects(), (3, 2));
    let state = f5.state();
    assert_eq!(state["uploads"], json!([]), "no key lies about");
    assert_eq!(state["tokens"], 0, "the token was given back");

    let before = f5.mock.device().calls().len();
    let again = connector().deploy(&request).await.unwrap();
    assert!(again.idempotent && !again.verified);
    assert_eq!(f5.named(), named);
    let calls = f5.calls_since(before);
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert!(
        calls[1] == format!("GET {PROFILE}")
            && calls[3].starts_with("DELETE /mgmt/shared/authz/tokens/")
    );

    let config = f5.config();
    let seen = connector().validate_deployment(&config, &pair.serial).await;
    assert!(seen.unwrap().valid);
    let other = connector()
        .validate_deployment(&config, "abc123")
        .await
        .unwrap();
    assert!(!other.valid && other.serial == pair.serial, "{other:?}");
}

#[tokio::test]
async fn the_calls_are_those_of_the_contract_in_their_order() {
    let f5 = Appliance::start().await;
    let pair = f5.ca.issue("a.example");
    connector().deploy(&f5.request(&pair)).await.unwrap();
    let kinds: Vec<String> = f5
        .mock
        .device()
        .calls()
        .iter()
        .map(|call| {
            let (method, path) = call.split_once(' ').unwrap();
            let place = path.trim_start_matches("/mgmt/").split('/').take(3);
            format!("{method} {}", place.collect::<Vec<_>>().join("/"))
        })
        .collect();
    let upload = [
        "POST shared/file-transfer/uploads",
        "POST tm/sys/crypto",
        "POST tm/util/unix-rm",
    ];
    let expected = [
        &[
            "POST shared/authn/login",
            "GET tm/ltm/profile",
            "GET tm/sys/file",
        ][..],
        &upload,
        &upload,
        &upload,
        &[
            "POST tm/transaction",
            "PATCH tm/ltm/profile",
            "PATCH tm/transaction/",
            "GET tm/ltm/profile",
        ],
        &[
            "GET tm/ltm/profile",
            "GET tm/sys/crypto",
            "GET tm/sys/crypto",
        ],
        &["DELETE shared/authz/tokens"],
    ]
    .concat();
    let kinds: Vec<&str> = kinds
        .iter()
        .map(|kind| kind.trim_end_matches(char::is_numeric))
        .collect();
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn what_is_replaced_goes_and_what_is_not_ours_stays() {
    let f5 = Appliance::start().await;
    for name in ["a.example", "b.example", "c.example"] {
        let pair = f5.ca.issue(name);
        connector().deploy(&f5.request(&pair)).await.unwrap();
        assert_eq!(f5.served().await, pair.fingerprint);
        assert_eq!(
            f5.objects(),
            (3, 2),
            "default.crt, leaf, chain; default.key, key"
        );
    }
    // A CA that is itself the root has no chain to give; that of the one before must not stay.
    let mut request = f5.request(&f5.ca.issue("d.example"));
    request.chain_pem = String::new();
    connector().deploy(&request).await.unwrap();
    assert_eq!(f5.named()[2], "none");
    assert_eq!(f5.objects(), (2, 2));
}

#[tokio::test]
async fn a_refused_commit_changes_nothing() {
    let f5 = Appliance::start().await;
    let live = f5.ca.issue("a.example");
    connector().deploy(&f5.request(&live)).await.unwrap();
    let before = f5.state();
    f5.fault("PATCH /mgmt/tm/transaction/", 0, Effect::Status(400));
    let next = f5.ca.issue("b.example");
    let failure = connector().deploy(&f5.request(&next)).await.unwrap_err();
    assert_eq!(
        (failure.kind(), failure.rollback()),
        ("validate_failed", Rollback::Restored)
    );
    assert!(
        failure
            .to_string()
            .contains("committing the transaction was refused with 400"),
        "{failure}"
    );
    assert_eq!(
        f5.state(),
        before,
        "the same profile and objects, no files, no tokens"
    );
    assert_eq!(f5.served().await, live.fingerprint);
}

#[tokio::test]
async fn what_the_appliance_cannot_read_is_not_installed() {
    let f5 = Appliance::start().await;
    let before = f5.state();
    let mut request = f5.request(&f5.ca.issue("a.example"));
    request.chain_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let failure = connector().deploy(&request).await.unwrap_err();
    assert_eq!(
        (failure.kind(), failure.rollback()),
        ("write_failed", Rollback::None)
    );
    assert_eq!(f5.state(), before);

    request.key_pem = Some(f5.ca.issue("b.example").key_pem);
    assert_eq!(
        connector().deploy(&request).await.unwrap_err().kind(),
        "key_mismatch"
    );
    request.key_pem = None;
    assert_eq!(
        connector().deploy(&request).await.unwrap_err().kind(),
        "key_missing"
    );
    assert_eq!(f5.state(), before);
}

/// Whichever call goes wrong, and however: what is served is the old pair or the new one, as the result says, and nothing is
/// left behind that a profile does not name.
#[tokio::test]
async fn whatever_goes_wrong_the_profile_is_whole_and_the_result_is_true() {
    for effect in [Effect::Status(503), Effect::Status(400), Effect::LoseAnswer] {
        let f5 = Appliance::start().await;
        let (mut failed, mut call) = (0, 0);
        loop {
            let old = f5.served().await;
            let calls = f5.mock.device().calls().len();
            f5.fault("", call, effect);
            let pair = f5.ca.issue("a.example");
            let result = connector().deploy(&f5.request(&pair)).await;
            let calls = f5.calls_since(calls);
            let at = calls.get(call).cloned().unwrap_or_default();
            match &result {
                Ok(_) => assert_eq!(f5.served().await, pair.fingerprint, "{effect:?} {at}"),
                Err(failure) => {
                    failed += 1;
                    assert_eq!(f5.served().await, old, "{effect:?} {at}: {failure}");
                    assert_ne!(
                        failure.kind(),
                        "rollback_failed",
                        "{effect:?} {at}: {failure}"
                    );
                }
            }
            // Once nothing goes wrong with it, a deployment clears up after itself.
            if calls.len() <= call {
                break;
            }
            call += 1;
        }
        // Login, profile, certificate, nine of the three files, transaction, patch, commit, and a look at the profile.
        assert!(call >= 20 && failed >= 10, "{effect:?}: {failed} of {call}");
        let [cert, key, chain] = f5.named();
        let state = f5.state();
        let known = |field: &str| state[field].as_array().unwrap().clone();
        for name in [json!(cert), json!(chain)] {
            assert!(known("certificates").contains(&name), "{effect:?}: {state}");
        }
        assert!(known("keys").contains(&json!(key)));
        // At most what could not be removed because listing (three times) or removing it was what went wrong.
        let (certificates, keys) = f5.objects();
        assert!(
            certificates <= 3 + 3 * 2 + 2 && keys <= 2 + 3 + 1,
            "{effect:?}: {state}"
        );
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_counts() {
    let f5 = Appliance::start().await;
    f5.fault("PATCH /mgmt/tm/transaction/", 0, Effect::LoseAnswer);
    let pair = f5.ca.issue("a.example");
    connector().deploy(&f5.request(&pair)).await.unwrap();
    assert_eq!(f5.served().await, pair.fingerprint);
}

#[tokio::test]
async fn a_pair_that_is_not_seen_to_be_served_is_taken_back() {
    let f5 = Appliance::start().await;
    let live = f5.ca.issue("a.example");
    connector().deploy(&f5.request(&live)).await.unwrap();
    let before = f5.named();
    let next = f5.ca.issue("b.example").request(f5.misdirected_config());
    let failure = connector().deploy(&next).await.unwrap_err();
    assert_eq!(
        (failure.kind(), failure.rollback()),
        ("verify_failed", Rollback::Restored)
    );
    assert!(
        failure.to_string().contains(&f5.first.fingerprint),
        "{failure}"
    );
    assert_eq!(f5.named(), before);
    assert_eq!(f5.objects(), (3, 2));
    assert_eq!(f5.served().await, live.fingerprint);
}

#[tokio::test]
async fn when_it_cannot_be_taken_back_the_failure_says_what_was_there() {
    let f5 = Appliance::start().await;
    let clock = ManualClock::starting_at(Timestamp::from_seconds(1_800_000_000));
    let connector = connector_by(Arc::new(clock.clone()));
    // The first change of the profile is the one in the transaction.
    f5.fault("PATCH /mgmt/tm/ltm/", 1, Effect::Status(503));
    let next = f5.ca.issue("b.example");
    let failure = connector
        .deploy(&next.request(f5.misdirected_config()))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.kind(), failure.rollback()),
        ("rollback_failed", Rollback::AlsoFailed)
    );
    assert!(
        failure.to_string().contains("/Common/default.crt"),
        "{failure}"
    );
    assert_eq!(
        f5.served().await,
        next.fingerprint,
        "it may be in use, so it stays"
    );
    assert_eq!(f5.objects(), (3, 2));

    // What is left over is removed by a deployment an hour later, and not sooner: it could be one under way.
    let profile =
        json!({"cert": "/Common/default.crt", "key": "/Common/default.key", "chain": "none"});
    let path = FullPath::new("Common", "certctl");
    assert!(f5.mock.device().patch(&path, &profile));
    let sooner = f5.ca.issue("c.example");
    connector.deploy(&f5.request(&sooner)).await.unwrap();
    assert_eq!(f5.objects(), (5, 3));
    clock.advance(Duration::from_secs(3600));
    let later = f5.ca.issue("d.example");
    connector.deploy(&f5.request(&later)).await.unwrap();
    assert_eq!(f5.objects(), (3, 2));
}

/// It is not known which of them is meant, and naming one would drop the others.
#[tokio::test]
async fn a_profile_with_several_pairs_is_left_alone() {
    let f5 = Appliance::start().await;
    let pair = json!({"name": "rsa", "cert": "/Common/default.crt", "key": "/Common/default.key"});
    let path = FullPath::new("Common", "certctl");
    let several = json!({"certKeyChain": [pair, pair]});
    assert!(f5.mock.device().patch(&path, &several));
    let before = f5.state();
    let request = f5.request(&f5.ca.issue("a.example"));
    let refused = connector().deploy(&request).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.rollback()),
        ("config_invalid", Rollback::None)
    );
    assert!(refused.to_string().contains("has 2 pairs"), "{refused}");
    let refused = connector().validate_only(&request).await.unwrap_err();
    assert!(refused.to_string().contains("has 2 pairs"), "{refused}");
    assert_eq!(f5.state(), before);
}

#[tokio::test]
async fn a_token_that_ends_on_the_way_is_replaced() {
    let f5 = Appliance::start().await;
    f5.fault("POST /mgmt/tm/transaction", 0, Effect::Status(401));
    let pair = f5.ca.issue("a.example");
    connector().deploy(&f5.request(&pair)).await.unwrap();
    assert_eq!(f5.served().await, pair.fingerprint);
    let logins = f5
        .mock
        .device()
        .calls()
        .iter()
        .filter(|call| call.ends_with("/login"))
        .count();
    assert_eq!(logins, 2);
}

#[tokio::test]
async fn who_may_not_or_does_not_know_the_profile_is_told_so() {
    let f5 = Appliance::start().await;
    let pair = f5.ca.issue("a.example");
    for (over, said) in [
        (
            json!({"password": "canary-77"}),
            "the login was refused with 401: Authentication failed.",
        ),
        (
            json!({"ssl_profile": "no"}),
            "reading the profile was refused with 404: 01020036:3: The requested Client SSL Profile (/Common/no) was not found.",
        ),
    ] {
        let mut request = f5.request(&pair);
        for (name, value) in over.as_object().unwrap() {
            request.target_config[name] = value.clone();
        }
        let refused = connector().validate_only(&request).await.unwrap_err();
        assert!(
            matches!(&refused, Error::DryRun(words) if words == said),
            "{refused}"
        );
        let failure = connector().deploy(&request).await.unwrap_err();
        assert_eq!(
            (failure.kind(), failure.rollback()),
            ("write_failed", Rollback::None)
        );
        assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
    }
    assert_eq!(f5.state()["tokens"], 0);
    let before = f5.mock.device().calls().len();
    connector().validate_only(&f5.request(&pair)).await.unwrap();
    let calls = f5.calls_since(before);
    assert_eq!(calls.len(), 3, "login, profile, logout: {calls:?}");
}

#[tokio::test]
async fn the_appliance_is_known_by_its_certificate_unless_nobody_minds() {
    let f5 = Appliance::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (root, stranger) = (
        folder.path().join("root.pem"),
        folder.path().join("stranger.pem"),
    );
    fs::write(&root, f5.ca.root_pem()).unwrap();
    fs::write(&stranger, Ca::new("Somebody Else").root_pem()).unwrap();
    let pair = f5.ca.issue("a.example");
    let mut request = f5.request(&pair);
    request.target_config["insecure"] = json!(false);
    for bundle in [&stranger, &folder.path().join("absent.pem")] {
        request.target_config["ca_bundle_path"] = json!(bundle);
        let refused = connector().deploy(&request).await.unwrap_err();
        assert_eq!(refused.kind(), "write_failed");
    }
    assert_eq!(
        f5.mock.device().calls(),
        Vec::<String>::new(),
        "nobody was told the password"
    );
    request.target_config["ca_bundle_path"] = json!(root);
    connector().deploy(&request).await.unwrap();
    assert_eq!(f5.served().await, pair.fingerprint);
}

#[tokio::test]
async fn an_appliance_that_does_not_answer_is_given_up() {
    let f5 = Appliance::start().await;
    f5.fault(
        "POST /mgmt/tm/transaction",
        0,
        Effect::Delay(Duration::from_secs(3600)),
    );
    let mut request = f5.request(&f5.ca.issue("a.example"));
    request.target_config["timeout"] = json!("500ms");
    let failure = connector().deploy(&request).await.unwrap_err();
    assert_eq!(failure.kind(), "write_failed");
    assert_eq!(f5.objects(), (1, 1));
    assert_eq!(f5.served().await, f5.first.fingerprint);
}

#[tokio::test]
async fn large_files_go_in_pieces() {
    let f5 = Appliance::start().await;
    let pair = f5.ca.issue("a.example");
    connector()
        .with_chunk(100)
        .deploy(&f5.request(&pair))
        .await
        .unwrap();
    assert_eq!(f5.served().await, pair.fingerprint);
    let uploads = f5.mock.device().calls();
    let uploads = uploads
        .iter()
        .filter(|call| call.contains("/uploads/"))
        .count();
    let pieces = [&pair.cert_pem, &pair.chain_pem, pair.key_pem.expose()]
        .map(|text: &str| text.len().div_ceil(100));
    assert_eq!(uploads, pieces.iter().sum::<usize>());
}
