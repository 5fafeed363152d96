//! Accounts: new ones, and changes to them.

use certctl_domain::acme::{Problem, ProblemType};

use crate::{
    eab::Binding,
    json::{Object, Value},
    refuse::malformed,
};

/// How many contacts an account may have.
pub const MAX_CONTACTS: usize = 10;
/// The longest contact: `mailto:` and an address of RFC 5321 §4.5.3.1.3.
const MAX_CONTACT: usize = 7 + 254;

/// A request for an account (RFC 8555 §7.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// `mailto:` URLs, each with one address.
    pub contact: Vec<String>,
    /// Whether its holder agrees to the terms of service.
    pub terms_agreed: bool,
    /// Whether only an account that exists is wanted (RFC 8555 §7.3.1).
    pub only_return_existing: bool,
    /// Proof that its holder is known (RFC 8555 §7.3.4), to be verified.
    pub external_account_binding: Option<Binding>,
}

impl NewAccount {
    /// Reads the payload.
    ///
    /// # Errors
    /// `malformed`; `unsupportedContact` and `invalidContact` (RFC 8555 §7.3).
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        let payload = super::object(payload)?;
        Ok(Self {
            contact: contact(&payload)?.unwrap_or_default(),
            terms_agreed: payload.flag("termsOfServiceAgreed")?,
            only_return_existing: payload.flag("onlyReturnExisting")?,
            external_account_binding: payload
                .object("externalAccountBinding")?
                .map(Binding::parse)
                .transpose()?,
        })
    }
}

/// A request to an account (RFC 8555 §7.3.2, §7.3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountUpdate {
    /// It is only to be shown (POST-as-GET).
    Read,
    /// It is to be changed.
    Change {
        /// The contacts that replace the old ones; none leaves them.
        contact: Option<Vec<String>>,
    },
    /// It is given up. Whatever else is asked does not count.
    Deactivate,
}

impl AccountUpdate {
    /// Reads the payload.
    ///
    /// # Errors
    /// `malformed`, also for any status but `deactivated`; `unsupportedContact` and `invalidContact`.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        if payload.is_empty() {
            return Ok(Self::Read);
        }
        let payload = super::object(payload)?;
        match payload.text("status")? {
            Some("deactivated") => Ok(Self::Deactivate),
            Some(_) => Err(malformed("an account can only become deactivated")),
            None => Ok(Self::Change {
                contact: contact(&payload)?,
            }),
        }
    }
}

fn contact(payload: &Object<'_>) -> Result<Option<Vec<String>>, Problem> {
    let Some(list) = payload.list("contact")? else {
        return Ok(None);
    };
    if list.len() > MAX_CONTACTS {
        let detail = format!("an account has at most {MAX_CONTACTS} contacts");
        return Err(Problem::new(ProblemType::InvalidContact, detail));
    }
    let texts = list.iter().map(|one| match one {
        Value::Text(url) => check_contact(url).map(|()| url.as_ref().to_owned()),
        _ => Err(malformed("a contact is not a string")),
    });
    texts.collect::<Result<_, _>>().map(Some)
}

/// RFC 8555 §7.3: `mailto:` with one address and without header fields (RFC 6068 §2).
fn check_contact(url: &str) -> Result<(), Problem> {
    let invalid = |detail| Err(Problem::new(ProblemType::InvalidContact, detail));
    let Some((scheme, address)) = url.split_once(':') else {
        return invalid("a contact is not a URL");
    };
    if !scheme.eq_ignore_ascii_case("mailto") {
        let detail = "contacts are mailto URLs";
        return Err(Problem::new(ProblemType::UnsupportedContact, detail));
    }
    if url.len() > MAX_CONTACT {
        return invalid("a contact is too long");
    }
    if address.contains('?') {
        return invalid("a contact must have no header fields");
    }
    if address.contains(',') {
        return invalid("a contact must have one address");
    }
    if !is_address(address) {
        return invalid("a contact is not an e-mail address");
    }
    Ok(())
}

/// A `dot-atom` (RFC 5322 §3.2.3) at a host name. Quoted local parts and escapes are left out: nobody has such an address, and
/// much that reads addresses goes wrong with them.
fn is_address(text: &str) -> bool {
    let Some((local, host)) = text.split_once('@') else {
        return false;
    };
    let atom = |atom: &str| {
        !atom.is_empty()
            && atom
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&'*+-/=^_`{|}~".contains(&b))
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    local.len() <= 64 && local.split('.').all(atom) && host.split('.').all(label)
}
