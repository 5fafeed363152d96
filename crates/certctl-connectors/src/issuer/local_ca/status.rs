//! What the CA signs for status services: lists, and who answers OCSP for it.

use certctl_domain::ports::issuer::{IssuerError, ResponderRequest, StatusSigner};
use certctl_pki::cert::ResponderSpec;

use super::{Inner, sign::refusal};

impl StatusSigner for Inner {
    fn certificate_der(&self) -> &[u8] {
        self.signer.certificate().der()
    }

    fn algorithm_der(&self) -> &[u8] {
        self.signer.signature_algorithm().to_der()
    }

    fn may_sign_crls(&self) -> bool {
        self.signer.certificate().may_sign_crls()
    }

    fn crl_urls(&self) -> &[String] {
        &self.config.crl_urls
    }

    fn crl_shards(&self) -> u16 {
        self.config.crl_shards
    }

    fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>, IssuerError> {
        self.signer.sign_status(tbs).map_err(refusal)
    }

    fn certify_responder(&self, request: &ResponderRequest) -> Result<Vec<u8>, IssuerError> {
        let ca = self.signer.certificate();
        // There is room for 64 characters (RFC 5280 appendix A); the name is a title that nobody goes by.
        let title = format!(
            "OCSP Responder for {}",
            ca.common_name().unwrap_or("the CA")
        );
        let title: String = title.chars().take(64).collect();
        let signed = self
            .signer
            .sign_responder(&ResponderSpec {
                common_name: title.trim_end(),
                spki_der: &request.spki_der,
                serial: &request.serial,
                // A verifier looks at the whole chain at one moment, so neither end may lie outside of the CA's own life.
                not_before: request.not_before.max(ca.not_before()),
                not_after: request.not_after.min(ca.not_after()),
            })
            .map_err(refusal)?;
        Ok(signed.into_der())
    }
}
