//! Certificates: downloaded (RFC 8555 §7.4.2), and when to renew them (RFC 9773).

use certctl_acme::{
    ari::{CertId, Lifetime, window},
    payload::post_as_get,
    resource::RenewalInfoBody,
    urls::Urls,
};
use certctl_domain::{
    acme::{Problem, ProblemType},
    id::{CertificateId, IssuerId, ProfileId},
};
use certctl_pki::cert::ParsedCertificate;
use certctl_repository::acme::issuing::{self, IssuedVersion};

use super::{
    Acme, Download, Refusal, RenewalInfoAnswer, SignedRequest,
    accounts::unexpected,
    desk::{Done, Work},
    metrics,
    recent::Chain,
    signed::{Opened, Signer, absent, foreign},
};

/// What a certificate begins with (RFC 7468 §5).
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

impl Acme {
    /// The certificate of an order of the account, with its chain.
    ///
    /// # Errors
    /// Those of every signed request, `unauthorized` for another's, `malformed` with 404 where there is none.
    pub async fn certificate(&self, request: SignedRequest, id: &str) -> Result<Download, Refusal> {
        let result = match self.open(&request).await {
            Ok(opened) => {
                let found = self.download(&opened, &request, id).await;
                self.settle(&opened, found).await
            }
            Err(refusal) => Err(refusal),
        };
        metrics::count(metrics::CERT_DOWNLOAD, &result);
        result
    }

    async fn download(
        &self,
        opened: &Opened,
        request: &SignedRequest,
        id: &str,
    ) -> Result<Download, Refusal> {
        let signer = self.signer(opened, request).await?;
        post_as_get(opened.jws.payload())?;
        let id = CertificateId::parse(id).map_err(|_| absent("certificate"))?;
        let found = self.stored_chain(opened, &signer, &id).await?;
        let (account, issuer, chain) = found.ok_or_else(|| absent("certificate"))?;
        if account != *signer.id() {
            return Err(foreign());
        }
        Ok(Download {
            id,
            chain_pem: self.with_issuer(chain, &issuer).await,
            alternates: 0,
        })
    }

    /// Read in the transaction that sees to the nonce, where there is one.
    async fn stored_chain(
        &self,
        opened: &Opened,
        signer: &Signer,
        id: &CertificateId,
    ) -> Result<Option<Chain>, Refusal> {
        if let Some(chain) = self.state.recent.take_chain(id) {
            self.touch(opened, signer).await?;
            return Ok(Some(chain));
        }
        if opened.nonce.is_none() {
            return Ok(issuing::download(&mut self.services.read().await?, id).await?);
        }
        let work = Work::Download(id.clone());
        match self.submit(opened, Some(signer), work).await? {
            Done::Downloaded(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// A chain of the leaf alone, which is what a root that signs leaves itself makes, with that root after it. RFC 8555 §9.1 lets
    /// the root be left out, but there are clients that read a chain of one certificate as none.
    async fn with_issuer(&self, chain: String, issuer: &IssuerId) -> String {
        if chain.matches(BEGIN).count() != 1 {
            return chain;
        }
        let root = match self.services.connected_issuer(issuer).await {
            Ok(connected) => connected.issuer.ca_pem().await,
            Err(_) => return chain,
        };
        // The leaf is good without it.
        root.map_or_else(
            |_| chain.clone(),
            |root| [chain.trim_end(), "\n", &root].concat(),
        )
    }

    /// When a certificate should be renewed; anybody may ask. What is no identifier is refused without asking the database.
    ///
    /// # Errors
    /// `malformed`: 400 for what is no identifier, 404 for one of no certificate of the profile's issuer, and where renewal
    /// information is switched off.
    pub async fn renewal_info(
        &self,
        urls: &Urls,
        profile: &ProfileId,
        id: &str,
    ) -> Result<RenewalInfoAnswer, Refusal> {
        let result = self.renewal_window(urls, profile, id).await;
        metrics::count(metrics::RENEWAL_INFO, &result);
        result
    }

    async fn renewal_window(
        &self,
        urls: &Urls,
        profile: &ProfileId,
        id: &str,
    ) -> Result<RenewalInfoAnswer, Refusal> {
        let config = &self.state.config;
        if !config.ari_enabled {
            let detail = "renewal information is not served";
            return Err(Problem::new(ProblemType::Malformed, detail)
                .with_status(404)
                .into());
        }
        let id = CertId::parse(id)?;
        let view = self.view().await?;
        // Orders of the shorthand family may choose among profiles, whose issuers may differ.
        let mut asked: Vec<&str> = Vec::new();
        for one in self.offered(urls.family(), profile) {
            let Some(profile) = view.profile(one) else {
                continue;
            };
            let Some(issuer) = profile.issuer.as_ref() else {
                continue;
            };
            if asked.contains(&issuer.as_str()) {
                continue;
            }
            asked.push(issuer.as_str());
            if let Some(version) = self.issued(&id, profile).await? {
                return Ok(RenewalInfoAnswer {
                    body: RenewalInfoBody::new(
                        window(&lifetime(&version), self.services.now()),
                        None,
                    ),
                    retry_after: config.ari_poll_interval.as_secs().max(1),
                });
            }
        }
        Err(absent("certificate"))
    }
}

fn lifetime(version: &IssuedVersion) -> Lifetime {
    Lifetime {
        not_before: version.not_before,
        not_after: version.not_after,
        is_revoked: version.is_revoked,
        renewal_days: Some(version.renewal_window_days).filter(|days| *days > 0),
    }
}

/// Whether a version is the one that an identifier names: its issuer's key too, since serial numbers are unique by issuer only, and
/// an issuer may have had another key.
pub(super) fn is_of(version: &IssuedVersion, id: &CertId) -> bool {
    ParsedCertificate::from_pem(&version.pem_chain)
        .ok()
        .and_then(|leaf| CertId::of_certificate(&leaf))
        .is_some_and(|own| own == *id)
}
