//! The validators of challenges against servers of DNS, HTTP and TLS.

mod caa;
mod dns01;
mod dns_server;
mod http01;
mod http_server;
mod real;
mod redirects;
mod ssrf;
mod tls_alpn01;
mod tls_server;

use std::time::Duration;

use certctl_connectors::acme::{Config, Limits, Validators};
use certctl_domain::{
    acme::{ChallengeType, Identifier, Problem, ProblemType},
    ports::challenge::{ChallengeValidator as _, ProofRequest},
};

use self::dns_server::DnsServer;

/// The name whose control is to be proved.
const NAME: &str = "www.example.com";
const TOKEN: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
const KEY_AUTHORIZATION: &str =
    "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";

/// More than anything here takes; only bounds a hang.
const AMPLE: Duration = Duration::from_secs(20);

/// For what is to run out.
const SHORT: Duration = Duration::from_millis(60);

/// A configuration that asks `dns`, admits 127.0.0.1 and no other reserved address, and has time.
fn config(dns: &DnsServer) -> Config {
    Config {
        resolver: dns.address(),
        block_private: false,
        allowed_networks: vec!["127.0.0.1/32".parse().unwrap()],
        http_port: 1,
        tls_port: 1,
        limits: Limits {
            query: AMPLE,
            dial: AMPLE,
            headers: AMPLE,
            total: AMPLE,
        },
    }
}

fn request(challenge_type: ChallengeType, identifier: Identifier) -> ProofRequest {
    ProofRequest {
        challenge_type,
        identifier,
        token: TOKEN.to_owned(),
        key_authorization: KEY_AUTHORIZATION.to_owned(),
    }
}

async fn prove(config: &Config, challenge_type: ChallengeType) -> Result<(), Problem> {
    prove_for(config, challenge_type, Identifier::dns(NAME).unwrap()).await
}

async fn prove_for(
    config: &Config,
    challenge_type: ChallengeType,
    identifier: Identifier,
) -> Result<(), Problem> {
    Validators::new(config)
        .prove(&request(challenge_type, identifier))
        .await
}

#[test]
fn the_limits_are_those_of_the_contract_unless_somebody_says_otherwise() {
    let config = Config::default();
    assert_eq!(config.resolver, "8.8.8.8:53".parse().unwrap());
    assert_eq!((config.http_port, config.tls_port), (80, 443));
    assert!(!config.block_private && config.allowed_networks.is_empty());
    let Limits {
        dial,
        headers,
        total,
        ..
    } = config.limits;
    assert_eq!([dial, headers, total].map(|one| one.as_secs()), [5, 10, 30]);
}

/// Checks what kind of problem there is, and that it says why.
#[track_caller]
fn assert_refused(result: &Result<(), Problem>, kind: ProblemType, part: &str) {
    match result {
        Ok(()) => panic!("taken for a proof; expected {kind:?} with {part:?}"),
        Err(problem) => {
            assert_eq!(problem.kind, kind, "{}", problem.detail);
            assert_eq!(problem.status, kind.status());
            assert!(
                problem.detail.contains(part),
                "{:?} lacks {part:?}",
                problem.detail
            );
        }
    }
}
