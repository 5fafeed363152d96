//! Answers whether a certificate is revoked (RFC 6960).

mod cache;

use std::{net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use certctl_domain::{id::IssuerId, serial::SerialNumber, time::Timestamp};
use certctl_pki::ocsp::{
    CertId, CertStatus, Failure, HashAlgorithm, Nonce, Request, ResponseData, SingleResponse,
};
use certctl_repository::revocations::{self, Standing};
use certctl_telemetry::{ErrorChain, metrics_names as names};
use metrics::counter;

use self::cache::Answer;
pub(crate) use self::cache::AnswerCache;
use crate::{Error, Services, crls::Der, limits::OCSP, status::Authority};

/// How long an answer is valid (protocols §4).
const LIFE: Duration = Duration::from_secs(3600);
/// How long one about a certificate that nobody knows is: it may be issued at any moment.
const LIFE_UNKNOWN: Duration = Duration::from_secs(300);
/// What an answer must have left to be given out again, so that no client is handed one that ends on its way.
const LEAST_LEFT: Duration = Duration::from_secs(900);
/// The greatest request in a path, in base64 (RFC 6960 A.1).
const MAX_PATH: usize = 255;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum OcspQuestion<'a> {
    /// The last segment of a path, decoded: a serial in hex, or a request in base64.
    Path(&'a str),
    /// A request as DER.
    Body(&'a [u8]),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct OcspAnswer {
    /// The response as DER.
    pub der: Der,
    /// From when to when it may be kept by caches; none when it may not.
    pub cacheable: Option<(Timestamp, Timestamp)>,
    /// Seconds after which to ask again, where there were too many questions.
    pub retry_after: Option<u64>,
}

impl OcspAnswer {
    fn failure(failure: Failure) -> Self {
        Self::live(failure.to_der().to_vec().into())
    }

    /// For this question alone.
    fn live(der: Der) -> Self {
        Self {
            der,
            cacheable: None,
            retry_after: None,
        }
    }
}

/// Counts an event of the responder.
fn count(label: &'static str) {
    counter!(names::OCSP_COUNTER_TOTAL.name, "label" => label).increment(1);
}

impl Services {
    /// Answers a question about certificates of an issuer. Anyone may ask; who asks is known by the address `client` only, and
    /// asked to come back later when it asks too much.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown issuer, [`Error::NotSupported`] when certctl does not hold its key, [`Error::BadRequest`]
    /// when nothing is asked that can be understood, [`Error::Unavailable`] when it cannot be known whether what is remembered
    /// still holds.
    pub async fn answer_ocsp(
        &self,
        client: IpAddr,
        id: &IssuerId,
        question: OcspQuestion<'_>,
    ) -> Result<OcspAnswer, Error> {
        /// protocols §4.
        const RETRY_AFTER: u64 = 60;
        let limit = self.config.status.ocsp_per_minute;
        let verdict = self.limits.admit(&OCSP, limit, &client.to_string()).await;
        if verdict.retry_after_seconds().is_some() {
            count("rate_limited");
            return Ok(OcspAnswer {
                retry_after: Some(RETRY_AFTER),
                ..OcspAnswer::failure(Failure::TryLater)
            });
        }
        count(match question {
            OcspQuestion::Path(_) => "request_get",
            OcspQuestion::Body(_) => "request_post",
        });
        let authority = self.authority(id).await.inspect_err(|error| {
            if matches!(error, Error::NotFound { .. }) {
                count("issuer_not_found");
            }
        })?;
        let request = match self.read_question(&authority, question) {
            Ok(request) => request,
            Err(refused) => {
                count("request_invalid");
                return refused;
            }
        };
        if !request
            .certificates
            .iter()
            .all(|one| one.is_of(&authority.hashes))
        {
            count("request_invalid");
            return Ok(OcspAnswer::failure(Failure::Unauthorized));
        }
        match request.nonce {
            Nonce::Malformed => {
                count("nonce_malformed");
                Ok(OcspAnswer::failure(Failure::Unauthorized))
            }
            Nonce::Present(nonce) => {
                let answer = self
                    .answer_live(id, &authority, &request.certificates, Some(&nonce))
                    .await?;
                count("nonce_echoed");
                Ok(answer)
            }
            Nonce::Absent => match &request.certificates[..] {
                [one] => self.answer_one(id, &authority, one).await,
                many => self.answer_live(id, &authority, many, None).await,
            },
        }
    }

    /// Reads what is asked; what is refused is an answer of OCSP, or an error of HTTP where there was no request at all.
    fn read_question(
        &self,
        authority: &Authority,
        question: OcspQuestion<'_>,
    ) -> Result<Question, Result<OcspAnswer, Error>> {
        let bad = |problem: &str| Err(Error::BadRequest(problem.to_owned()));
        let der = match question {
            OcspQuestion::Path(text) if text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                let serial = SerialNumber::parse(text).map_err(|error| bad(&error.to_string()))?;
                return Ok(Question {
                    certificates: vec![CertId::new(
                        HashAlgorithm::Sha1,
                        &authority.hashes,
                        &serial,
                    )],
                    nonce: Nonce::Absent,
                });
            }
            OcspQuestion::Path(text) if text.len() > MAX_PATH => {
                return Err(bad("a request in a path has at most 255 characters"));
            }
            OcspQuestion::Path(text) => STANDARD
                .decode(text)
                .map_err(|_| bad("neither a serial in hex nor a request in base64"))?
                .into(),
            OcspQuestion::Body(der) => std::borrow::Cow::Borrowed(der),
        };
        match Request::from_der(&der) {
            Ok(request) => Ok(Question {
                certificates: request.certificates().to_vec(),
                nonce: request.nonce().clone(),
            }),
            // It can be read, and asks for too much.
            Err(certctl_pki::Error::TooLarge { .. }) => {
                Err(Ok(OcspAnswer::failure(Failure::MalformedRequest)))
            }
            Err(_) => Err(bad("not an OCSP request")),
        }
    }

    /// One certificate, no nonce: what was signed before will do, while it holds.
    async fn answer_one(
        &self,
        id: &IssuerId,
        authority: &Arc<Authority>,
        one: &CertId,
    ) -> Result<OcspAnswer, Error> {
        let status = self.issuer_status(id).await?;
        let now = self.now();
        let remembered =
            self.status.answers.get(id, one.der()).filter(|answer| {
                answer.this_update <= now && now + LEAST_LEFT < answer.next_update
            });
        // A revocation is never taken back, so that only good answers can be overtaken.
        let holds = |answer: &Answer| {
            answer.version >= status.version || matches!(answer.standing, Standing::Revoked { .. })
        };
        if let Some(answer) = remembered.clone().filter(holds) {
            count("cache_hit");
            count("request_success");
            return Ok(given(&answer));
        }
        count("cache_miss");
        let standing = self.standings(id, std::slice::from_ref(one)).await?[0];
        // Something else of the issuer was revoked: what was signed says the same, and need not be signed again.
        let still = remembered.filter(|answer| answer.standing == standing);
        let answer = match still {
            Some(answer) => Answer {
                version: status.version,
                ..answer
            },
            None => {
                let (der, next_update) = match self
                    .sign_answer(id, authority, &[(one, standing)], None)
                    .await
                {
                    Ok(signed) => signed,
                    Err(error) => return Ok(failed(id, &error)),
                };
                Answer {
                    der,
                    standing,
                    version: status.version,
                    this_update: now,
                    next_update,
                }
            }
        };
        count("request_success");
        if standing == Standing::Unknown {
            count("cert_not_found");
            return Ok(OcspAnswer::live(answer.der));
        }
        self.status.answers.put(id, one.der(), answer.clone());
        Ok(given(&answer))
    }

    /// Several certificates, or a nonce: signed for this question alone.
    async fn answer_live(
        &self,
        id: &IssuerId,
        authority: &Arc<Authority>,
        certificates: &[CertId],
        nonce: Option<&[u8]>,
    ) -> Result<OcspAnswer, Error> {
        let standings = self.standings(id, certificates).await?;
        if standings.contains(&Standing::Unknown) {
            count("cert_not_found");
        }
        let asked: Vec<_> = certificates.iter().zip(standings).collect();
        match self.sign_answer(id, authority, &asked, nonce).await {
            Ok((der, _)) => {
                count("request_success");
                Ok(OcspAnswer::live(der))
            }
            Err(error) => Ok(failed(id, &error)),
        }
    }

    async fn standings(
        &self,
        id: &IssuerId,
        certificates: &[CertId],
    ) -> Result<Vec<Standing>, Error> {
        let serials: Vec<SerialNumber> = certificates
            .iter()
            .map(|one| one.serial().clone())
            .collect();
        Ok(revocations::standings(&mut self.read().await?, id, &serials).await?)
    }

    /// Signs an answer; until when it is valid.
    async fn sign_answer(
        &self,
        id: &IssuerId,
        authority: &Arc<Authority>,
        asked: &[(&CertId, Standing)],
        nonce: Option<&[u8]>,
    ) -> Result<(Der, Timestamp), Error> {
        let signer = self.answer_signer(id, authority).await?;
        let now = self.now();
        let knows_all = asked
            .iter()
            .all(|(_, standing)| *standing != Standing::Unknown);
        let life = if knows_all { LIFE } else { LIFE_UNKNOWN };
        let next_update = (now + life).min(signer.not_after());
        let responses: Vec<SingleResponse<'_>> = asked
            .iter()
            .map(|(id, standing)| SingleResponse {
                id,
                status: status_of(*standing),
                this_update: now,
                next_update,
            })
            .collect();
        let data = ResponseData::new(&signer.id()?, now, &responses, nonce)?;
        Ok((signer.sign(&data)?.into(), next_update))
    }
}

/// What is asked, taken apart.
struct Question {
    certificates: Vec<CertId>,
    nonce: Nonce,
}

fn status_of(standing: Standing) -> CertStatus {
    match standing {
        Standing::Good => CertStatus::Good,
        Standing::Revoked { at, reason } => CertStatus::Revoked { at, reason },
        Standing::Unknown => CertStatus::Unknown,
    }
}

fn given(answer: &Answer) -> OcspAnswer {
    OcspAnswer {
        der: answer.der.clone(),
        cacheable: Some((answer.this_update, answer.next_update)),
        retry_after: None,
    }
}

fn failed(id: &IssuerId, error: &Error) -> OcspAnswer {
    count("signing_failed");
    tracing::error!(issuer.id = %id, error = %ErrorChain(error), "an OCSP answer could not be signed");
    OcspAnswer::failure(Failure::InternalError)
}
