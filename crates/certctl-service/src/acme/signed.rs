//! The checks of a signed request in the order of RFC 8555 §6 and acme-server §4; the first that fails is the answer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use certctl_acme::{
    jwk::Jwk,
    jws::{FlatJws, KeyRef},
};
use certctl_domain::{
    acme::{AccountStatus, AcmeAccountId, Problem, ProblemType},
    time::Timestamp,
};
use certctl_repository::acme::nonces;

use super::{Acme, Refusal, SignedRequest, known::Known, nonces::bad_nonce};

/// A request whose nonce this process has not seen before.
pub(super) struct Opened {
    pub(super) jws: FlatJws,
    /// What the other replicas have to agree to; none where there are no others.
    pub(super) nonce: Option<(String, Timestamp)>,
    /// Whether they have.
    pub(super) spent: AtomicBool,
}

/// An account that signed a request.
pub(super) struct Signer {
    pub(super) known: Arc<Known>,
    /// Its URL, as it stands in the request.
    pub(super) kid: String,
}

impl Signer {
    pub(super) fn id(&self) -> &AcmeAccountId {
        &self.known.account.id
    }
}

impl Acme {
    /// Size, shape, algorithm, URL and nonce.
    pub(super) async fn open(&self, request: &SignedRequest) -> Result<Opened, Refusal> {
        let jws = FlatJws::parse(&request.body)?;
        jws.check_url(&request.url)?;
        let nonce = self.redeem_here(jws.nonce()?).await?;
        Ok(Opened {
            jws,
            nonce: self
                .is_shared()
                .then(|| (hex::encode(nonce.id), nonce.expires_at)),
            spent: AtomicBool::new(false),
        })
    }

    /// What a request comes to. One that is refused before anything is written only looks whether another replica has seen its nonce:
    /// a client that is told so tries again, and nobody without an account makes the database write.
    pub(super) async fn settle<T>(
        &self,
        opened: &Opened,
        result: Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let refusal = match result {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        if let Some((nonce, _)) = &opened.nonce
            && !opened.spent.load(Ordering::Relaxed)
        {
            let mut conn = self.services.read().await?;
            if nonces::is_redeemed(&mut conn, nonce).await? {
                return Err(bad_nonce());
            }
        }
        Err(refusal)
    }

    /// That an account of this family signed.
    pub(super) async fn signer(
        &self,
        opened: &Opened,
        request: &SignedRequest,
    ) -> Result<Signer, Refusal> {
        let kid = opened.jws.kid()?;
        let unknown = || Problem::new(ProblemType::AccountDoesNotExist, "there is no such account");
        let id = request.urls.parse_kid(kid).ok_or_else(unknown)?;
        let mut known = self.known(&id).await?.ok_or_else(unknown)?;
        let checked = check(&opened.jws, &known, request);
        if checked.is_err() && self.is_shared() {
            // Another replica may have given it another key, or ended it.
            known = self.read_known(&id).await?.ok_or_else(unknown)?;
            check(&opened.jws, &known, request)?;
        } else {
            checked?;
        }
        Ok(Signer {
            known,
            kid: kid.to_owned(),
        })
    }

    /// That whoever holds this key signed.
    pub(super) fn key_holder<'a>(&self, opened: &'a Opened) -> Result<&'a Jwk, Refusal> {
        let jwk = opened.jws.jwk()?;
        opened.jws.verify(jwk)?;
        Ok(jwk)
    }

    /// Whether an account signed, or a key.
    pub(super) fn is_of_account(opened: &Opened) -> Result<bool, Refusal> {
        Ok(matches!(opened.jws.key()?, KeyRef::Kid(_)))
    }
}

fn check(jws: &FlatJws, known: &Known, request: &SignedRequest) -> Result<(), Problem> {
    // The id is a digest of the profile too, so that only a changed configuration of the shorthand family comes to this.
    if known.account.profile_id != request.profile {
        return Err(Problem::new(
            ProblemType::AccountDoesNotExist,
            "there is no such account",
        ));
    }
    in_force(known.account.status)?;
    jws.verify(&known.key)
}

/// RFC 8555 §7.3.6: of an account that has ended everything is refused.
pub(super) fn in_force(status: AccountStatus) -> Result<(), Problem> {
    match status {
        AccountStatus::Valid => Ok(()),
        AccountStatus::Deactivated | AccountStatus::Revoked => Err(Problem::new(
            ProblemType::Unauthorized,
            format!("the account is {status}"),
        )),
    }
}

/// RFC 8555 §7.1: what belongs to another account.
pub(super) fn foreign() -> Refusal {
    Problem::new(ProblemType::Unauthorized, "it belongs to another account").into()
}

/// What there is none of.
pub(super) fn absent(what: &str) -> Refusal {
    Problem::new(ProblemType::Malformed, format!("there is no such {what}"))
        .with_status(404)
        .into()
}
