//! The request with which an order is finalised (RFC 8555 §7.4).

use std::{collections::BTreeSet, net::IpAddr};

use certctl_domain::{
    acme::{Identifier, Problem, ProblemType},
    name::SubjectAltName,
};
use certctl_pki::{csr::Csr, key::PublicKey};

/// Reads a signing request and checks that it asks for exactly the identifiers of the order, common name included, for a key
/// that is strong enough and is not the account's own (RFC 8555 §11.1).
///
/// `identifiers` are those of the order, in any order; `account_spki` is the account's key as DER `SubjectPublicKeyInfo`.
///
/// # Errors
/// `badCSR` saying what is wrong.
pub fn check(
    csr_der: &[u8],
    identifiers: &[Identifier],
    account_spki: &[u8],
) -> Result<Csr, Problem> {
    let csr = Csr::parse_der(csr_der).map_err(|reason| bad(reason.to_string()))?;
    let is_account_key = PublicKey::from_spki_der(account_spki)
        .is_ok_and(|account| account.is_same_key(csr.public_key()));
    if is_account_key {
        return Err(bad("the CSR is for the key of the account"));
    }
    let mut asked = csr
        .sans()
        .iter()
        .map(identifier)
        .collect::<Result<BTreeSet<_>, _>>()?;
    asked.extend(csr.common_name().map(common_name).transpose()?);
    let ordered: BTreeSet<&Identifier> = identifiers.iter().collect();
    if let Some(extra) = asked.iter().find(|one| !ordered.contains(one)) {
        return Err(bad(format!(
            "the CSR asks for {extra}, which the order does not have"
        )));
    }
    if let Some(missing) = ordered.into_iter().find(|one| !asked.contains(one)) {
        return Err(bad(format!("the CSR does not ask for {missing}")));
    }
    Ok(csr)
}

fn identifier(san: &SubjectAltName) -> Result<Identifier, Problem> {
    match san {
        SubjectAltName::Dns(name) => {
            Identifier::dns(name).map_err(|reason| bad(format!("a name of the CSR {reason}")))
        }
        SubjectAltName::Ip(ip) => Ok(Identifier::Ip(*ip)),
        SubjectAltName::Email(_) => Err(bad("the CSR asks for an e-mail address")),
        SubjectAltName::Uri(_) => Err(bad("the CSR asks for a URI")),
    }
}

/// The common name has no type; an address in it is one (RFC 8738 §3 orders them so).
fn common_name(name: &str) -> Result<Identifier, Problem> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(Identifier::Ip(ip));
    }
    Identifier::dns(name).map_err(|reason| bad(format!("the common name of the CSR {reason}")))
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemType::BadCsr, detail)
}

#[cfg(test)]
mod tests;
