//! Has issuers sign, each its part of a batch, and no longer than a batch may take.

use std::{collections::BTreeMap, time::Duration};

use certctl_domain::{
    id::IssuerId,
    issuer::IssuerType,
    ports::issuer::{IssuanceRequest, IssuedCertificate, Issuer, IssuerError},
};
use certctl_telemetry::ErrorChain;
use tokio::time::Instant;

use super::batch::{Failed, Outcome, Prepared};
use crate::{
    Error, Services,
    issuers::registry::{ConnectError, Connected},
};

/// How long the issuers of a batch may take together (scheduler §5: each job has 15 minutes). Without a bound, an issuer that
/// never answers would keep its lane of the processor for ever, since the leases are prolonged meanwhile.
const SIGN_WITHIN: Duration = Duration::from_secs(15 * 60);
/// How long connecting to an issuer may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(60);

/// Has each issuer sign its part of the batch.
pub(super) async fn sign(services: &Services, prepared: Vec<Prepared>, outcome: &mut Outcome) {
    let mut by_issuer: BTreeMap<IssuerId, Vec<Prepared>> = BTreeMap::new();
    for one in prepared {
        by_issuer
            .entry(one.intent.issuer_id.clone())
            .or_default()
            .push(one);
    }
    let deadline = Instant::now() + SIGN_WITHIN;
    for (issuer_id, part) in by_issuer {
        let connected = match connect(services, &issuer_id).await {
            Ok(connected) if connected.enabled => connected,
            Ok(_) => {
                outcome.failed.extend(
                    part.into_iter()
                        .map(|one| Failed::retryable(one.claimed, "the issuer is disabled")),
                );
                continue;
            }
            Err(error) => {
                outcome
                    .failed
                    .extend(part.into_iter().map(|one| unconnected(one, &error)));
                continue;
            }
        };
        let requests = part.iter().map(|one| one.request.clone()).collect();
        let started = Instant::now();
        let answers = issue(&*connected.issuer, requests, deadline).await;
        crate::metrics::observe_issuance(connected.kind, started.elapsed(), &answers);
        collect(part, answers, connected.kind, outcome);
    }
}

/// A connection, or that there was none in time.
async fn connect(services: &Services, id: &IssuerId) -> Result<Connected, ConnectError> {
    match tokio::time::timeout(CONNECT_WITHIN, services.connected_issuer(id)).await {
        Ok(connected) => connected,
        Err(_) => Err(IssuerError::Timeout("no connection".to_owned()).into()),
    }
}

/// Asks an issuer for certificates; what it has not answered by the deadline counts as unanswered, and is asked for again later
/// by the same intents.
async fn issue(
    issuer: &dyn Issuer,
    requests: Vec<IssuanceRequest>,
    deadline: Instant,
) -> Vec<Result<IssuedCertificate, IssuerError>> {
    let asked = requests.len();
    match tokio::time::timeout_at(deadline, issuer.issue(requests)).await {
        Ok(answers) => answers,
        Err(_) => vec![Err(IssuerError::Timeout("no answer to the batch".to_owned())); asked],
    }
}

fn collect(
    part: Vec<Prepared>,
    answers: Vec<Result<IssuedCertificate, IssuerError>>,
    kind: IssuerType,
    outcome: &mut Outcome,
) {
    let expected = part.len();
    if answers.len() != expected {
        tracing::error!(issuer.kind = %kind, expected, got = answers.len(), "an issuer answered another number of requests than it was asked");
    }
    let mut answers = answers.into_iter();
    for one in part {
        match answers.next() {
            Some(Ok(issued)) => outcome.issued.push((one, issued)),
            Some(Err(error)) => {
                outcome.failed.push(refused(one, &error));
            }
            None => outcome.failed.push(Failed::retryable(
                one.claimed,
                "other: the issuer answered fewer requests than it was asked",
            )),
        }
    }
}

/// What an issuer refused: its class and words of our own are on record, its own words in the log.
fn refused(one: Prepared, error: &IssuerError) -> Failed {
    Failed {
        claimed: one.claimed,
        problem: error.summary().to_owned(),
        cause: Some(error.to_string()),
        retryable: error.is_retryable(),
        retry_after: error.retry_after(),
    }
}

/// What could not be asked for.
fn unconnected(one: Prepared, error: &ConnectError) -> Failed {
    match error {
        ConnectError::Issuer(error) => refused(one, error),
        ConnectError::Row(error) => {
            let cause = ErrorChain(error).to_string();
            let problem = "the issuer or its secrets could not be read";
            let failed = if matches!(error, Error::Unavailable(_)) {
                Failed::retryable(one.claimed, problem)
            } else {
                Failed::permanent(one.claimed, problem)
            };
            failed.because(cause)
        }
    }
}

#[cfg(test)]
mod tests {
    use certctl_domain::{
        ports::BoxFuture, revocation::RevocationReason, serial::SerialNumber, time::Timestamp,
    };

    use super::*;

    struct Silent;

    impl Issuer for Silent {
        fn issue(
            &self,
            _: Vec<IssuanceRequest>,
        ) -> BoxFuture<'_, Vec<Result<IssuedCertificate, IssuerError>>> {
            Box::pin(std::future::pending())
        }

        fn revoke<'a>(
            &'a self,
            _: &'a SerialNumber,
            _: RevocationReason,
        ) -> BoxFuture<'a, Result<(), IssuerError>> {
            Box::pin(std::future::pending())
        }

        fn ca_pem(&self) -> BoxFuture<'_, Result<String, IssuerError>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn an_issuer_that_never_answers_has_timed_out_for_each_request() {
        let request = IssuanceRequest {
            common_name: "a.example.test".into(),
            sans: Vec::new(),
            spki_der: Vec::new(),
            csr_pem: String::new(),
            ekus: Vec::new(),
            max_ttl_seconds: 0,
            must_staple: false,
            serial: SerialNumber::parse("a1").unwrap(),
            not_before: Timestamp::MAX,
        };
        let requests = vec![request.clone(), request];
        let answers = issue(&Silent, requests, Instant::now()).await;
        assert_eq!(answers.len(), 2);
        for answer in answers {
            let error = answer.unwrap_err();
            assert!(matches!(error, IssuerError::Timeout(_)) && error.is_retryable());
        }
    }
}
