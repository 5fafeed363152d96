//! The rules themselves.

use certctl_domain::{key::KeyAlgorithm, name::SubjectAltName};
use x509_cert::{
    TbsCertificate, Version,
    der::{
        Decode,
        oid::{AssociatedOid, ObjectIdentifier, db::rfc5280::ID_KP_OCSP_SIGNING},
    },
    ext::{
        Extension,
        pkix::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage,
            SubjectAltName as San, SubjectKeyIdentifier,
        },
    },
    time::Time,
};

use super::{Finding, Issuer, Rule};
use crate::{asn1, cert::extension::OCSP_NOCHECK_OID, general_name, key::PublicKey};

pub(super) fn check(tbs: &[u8], issuer: &Issuer<'_>) -> Vec<Finding> {
    let mut findings = Findings::default();
    match Facts::read(tbs) {
        Ok(facts) => {
            serial(&facts, &mut findings);
            validity(&facts, issuer, &mut findings);
            names(&facts, &mut findings);
            key(&facts, &mut findings);
            key_usage(&facts, &mut findings);
            basic_constraints(&facts, issuer, &mut findings);
            extended_key_usage(&facts, &mut findings);
            key_ids(&facts, issuer, &mut findings);
            ocsp_responder(&facts, &mut findings);
        }
        Err(finding) => findings.0.push(finding),
    }
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, rule: Rule, problem: impl Into<String>) {
        self.0.push(Finding {
            rule,
            problem: problem.into(),
        });
    }
}

/// A certificate taken apart far enough for the rules.
struct Facts {
    tbs: TbsCertificate,
    /// The content octets of the serial.
    serial: Vec<u8>,
    /// None when the key is of no supported kind.
    key: Option<PublicKey>,
    sans: Option<(bool, Vec<u8>)>,
    basic_constraints: Option<(bool, BasicConstraints)>,
    key_usage: Option<(bool, KeyUsage)>,
    extended_key_usage: Option<ExtendedKeyUsage>,
    authority_key_id: Option<AuthorityKeyIdentifier>,
    subject_key_id: Option<SubjectKeyIdentifier>,
}

impl Facts {
    fn read(der: &[u8]) -> Result<Self, Finding> {
        let malformed = |problem: &str| Finding {
            rule: Rule::WellFormed,
            problem: problem.to_owned(),
        };
        let tbs = TbsCertificate::from_der(der)
            .map_err(|_| malformed("it does not decode as a certificate"))?;
        if tbs.version() != Version::V3 {
            return Err(malformed("it has extensions but is not of version 3"));
        }
        let fields = asn1::elements(der, "certificate").map_err(|_| malformed("no SEQUENCE"))?;
        let extensions = tbs.extensions().map_or(&[][..], Vec::as_slice);
        for (index, extension) in extensions.iter().enumerate() {
            if extensions[..index]
                .iter()
                .any(|earlier| earlier.extn_id == extension.extn_id)
            {
                return Err(Finding {
                    rule: Rule::NoDuplicateExtension,
                    problem: format!("{} stands there twice", extension.extn_id),
                });
            }
        }
        Ok(Self {
            // Version and serial come first; tag and a length of one octet precede what a serial can be.
            serial: fields[1].get(2..).unwrap_or_default().to_vec(),
            key: fields
                .get(6)
                .and_then(|spki| PublicKey::from_spki_der(spki).ok()),
            sans: extension::<San>(extensions)
                .map(|found| (found.critical, found.extn_value.as_bytes().to_vec())),
            basic_constraints: decode(extensions)?,
            key_usage: decode(extensions)?,
            extended_key_usage: decode(extensions)?.map(|(_, usage)| usage),
            authority_key_id: decode(extensions)?.map(|(_, id)| id),
            subject_key_id: decode(extensions)?.map(|(_, id)| id),
            tbs,
        })
    }

    fn is_ca(&self) -> bool {
        self.basic_constraints.as_ref().is_some_and(|(_, bc)| bc.ca)
    }

    fn signs_ocsp(&self) -> bool {
        self.extended_key_usage
            .as_ref()
            .is_some_and(|usages| usages.0.contains(&ID_KP_OCSP_SIGNING))
    }

    fn has(&self, id: ObjectIdentifier) -> bool {
        let mut extensions = self.tbs.extensions().into_iter().flatten();
        extensions.any(|extension| extension.extn_id == id)
    }
}

fn extension<T: AssociatedOid>(extensions: &[Extension]) -> Option<&Extension> {
    extensions
        .iter()
        .find(|extension| extension.extn_id == T::OID)
}

/// The extension with whether it is critical.
fn decode<'a, T: AssociatedOid + Decode<'a>>(
    extensions: &'a [Extension],
) -> Result<Option<(bool, T)>, Finding> {
    extension::<T>(extensions)
        .map(|found| match T::from_der(found.extn_value.as_bytes()) {
            Ok(value) => Ok((found.critical, value)),
            Err(_) => Err(Finding {
                rule: Rule::WellFormed,
                problem: format!("the extension {} does not decode", found.extn_id),
            }),
        })
        .transpose()
}

fn serial(facts: &Facts, findings: &mut Findings) {
    let octets = &facts.serial;
    if octets.len() > 20 {
        findings.add(Rule::Serial, "it has more than 20 octets");
    }
    match octets.first() {
        None => findings.add(Rule::Serial, "it is empty"),
        Some(first) if *first >= 0x80 => findings.add(Rule::Serial, "it is negative"),
        Some(_) if octets.iter().skip_while(|octet| **octet == 0).count() < 8 => {
            findings.add(Rule::Serial, "it has less than 64 bits");
        }
        Some(_) => {}
    }
}

fn validity(facts: &Facts, issuer: &Issuer<'_>, findings: &mut Findings) {
    let validity = facts.tbs.validity();
    let (start, end) = (seconds(validity.not_before), seconds(validity.not_after));
    if start > end {
        findings.add(Rule::ValidityOrder, "it ends before it starts");
    }
    for time in [validity.not_before, validity.not_after] {
        if matches!(time, Time::GeneralTime(_)) && time.to_date_time().year() < 2050 {
            findings.add(Rule::ValidityEncoding, format!("{time} must be a UTCTime"));
        }
    }
    let limit = u64::try_from(issuer.not_after.as_seconds()).unwrap_or(0);
    if end > limit {
        findings.add(Rule::WithinIssuer, "it ends after its issuer does");
    }
}

fn seconds(time: Time) -> u64 {
    time.to_unix_duration().as_secs()
}

fn names(facts: &Facts, findings: &mut Findings) {
    let is_subject_empty = facts.tbs.subject().is_empty();
    let sans = match &facts.sans {
        None => None,
        Some((is_critical, der)) => {
            if is_subject_empty && !is_critical {
                findings.add(
                    Rule::NamesWellFormed,
                    "the subject is empty but the alternative names are not critical",
                );
            }
            match general_name::decode_strict(der) {
                Ok(sans) if sans.is_empty() => {
                    findings.add(
                        Rule::NamesWellFormed,
                        "there are no alternative names in the list",
                    );
                    Some(sans)
                }
                Ok(sans) => Some(sans),
                Err(error) => {
                    findings.add(Rule::NamesWellFormed, error.to_string());
                    // What cannot be read cannot be compared with the common name either.
                    return;
                }
            }
        }
    };
    let is_server = facts.extended_key_usage.as_ref().is_some_and(|usages| {
        usages
            .0
            .contains(&x509_cert::der::oid::db::rfc5280::ID_KP_SERVER_AUTH)
    });
    if sans.is_none() && (is_server || (is_subject_empty && !facts.is_ca())) {
        findings.add(Rule::SanForServers, "there are no alternative names");
    }
    if facts.is_ca() {
        if is_subject_empty {
            // RFC 5280 §4.1.2.6: chains are built by the CA's name.
            findings.add(Rule::NamesWellFormed, "the subject of a CA is empty");
        }
        return;
    }
    let Ok(common_names) = general_name::common_names(facts.tbs.subject()) else {
        findings.add(Rule::NamesWellFormed, "the common name does not decode");
        return;
    };
    let is_title = facts.signs_ocsp();
    for name in common_names {
        if general_name::refuse_deceptive(&name).is_err() {
            findings.add(Rule::NamesWellFormed, "the common name is deceptive");
        }
        if !is_title && !sans.iter().flatten().any(|san| is_same_name(san, &name)) {
            findings.add(
                Rule::CommonNameInSan,
                format!("{name:?} is not among the alternative names"),
            );
        }
    }
}

/// Host names are compared without case (RFC 5280 §7.2), addresses by value.
fn is_same_name(san: &SubjectAltName, common_name: &str) -> bool {
    match san {
        SubjectAltName::Ip(ip) => common_name.parse() == Ok(*ip),
        SubjectAltName::Dns(text) => text.eq_ignore_ascii_case(common_name),
        SubjectAltName::Email(text) | SubjectAltName::Uri(text) => text == common_name,
    }
}

fn key(facts: &Facts, findings: &mut Findings) {
    match &facts.key {
        None => findings.add(Rule::KeyStrength, "the key is of no supported kind"),
        Some(key) => {
            if let Err(error) = key.check_strength() {
                findings.add(Rule::KeyStrength, error.to_string());
            }
        }
    }
}

fn key_usage(facts: &Facts, findings: &mut Findings) {
    let Some((is_critical, usage)) = &facts.key_usage else {
        findings.add(Rule::KeyUsage, "it is missing");
        return;
    };
    let mut refuse = |broken: bool, problem: &str| {
        if broken {
            findings.add(Rule::KeyUsage, problem);
        }
    };
    let algorithm = facts.key.as_ref().map(PublicKey::algorithm);
    let is_rsa = algorithm == Some(KeyAlgorithm::Rsa);
    let agrees = algorithm == Some(KeyAlgorithm::Ecdsa);
    refuse(!is_critical, "it is not critical");
    refuse(
        !is_rsa && (usage.key_encipherment() || usage.data_encipherment()),
        "only RSA keys encipher",
    );
    refuse(
        !agrees && usage.key_agreement(),
        "only elliptic curve keys agree on keys",
    );
    if facts.is_ca() {
        refuse(!usage.key_cert_sign(), "a CA without keyCertSign");
    } else {
        refuse(
            usage.key_cert_sign() || usage.crl_sign(),
            "keyCertSign or cRLSign without being a CA",
        );
        refuse(
            !usage.digital_signature(),
            "a leaf without digitalSignature",
        );
    }
}

fn basic_constraints(facts: &Facts, issuer: &Issuer<'_>, findings: &mut Findings) {
    let Some((is_critical, constraints)) = &facts.basic_constraints else {
        findings.add(Rule::BasicConstraints, "they are missing");
        return;
    };
    if !is_critical {
        findings.add(Rule::BasicConstraints, "they are not critical");
    }
    let length = constraints.path_len_constraint;
    if !constraints.ca {
        if length.is_some() {
            findings.add(Rule::BasicConstraints, "a path length without being a CA");
        }
        return;
    }
    match (issuer.path_length, length) {
        (Some(0), _) => findings.add(Rule::BasicConstraints, "the issuer admits no CA below it"),
        (Some(limit), None) => findings.add(
            Rule::BasicConstraints,
            format!("no path length, but the issuer bounds it to {}", limit - 1),
        ),
        (Some(limit), Some(length)) if length >= limit => findings.add(
            Rule::BasicConstraints,
            format!(
                "path length {length}, but the issuer bounds it to {}",
                limit - 1
            ),
        ),
        _ => {}
    }
}

fn extended_key_usage(facts: &Facts, findings: &mut Findings) {
    use x509_cert::der::oid::db::rfc5280::ANY_EXTENDED_KEY_USAGE;
    match (&facts.extended_key_usage, facts.is_ca()) {
        (Some(_), true) => findings.add(Rule::ExtendedKeyUsage, "a CA with extended key usages"),
        (None, false) => findings.add(Rule::ExtendedKeyUsage, "a leaf that says of no use"),
        (None, true) => {}
        (Some(usages), false) => {
            let usages = &usages.0;
            if usages.is_empty() {
                findings.add(Rule::ExtendedKeyUsage, "the list is empty");
            }
            if usages.contains(&ANY_EXTENDED_KEY_USAGE) {
                findings.add(Rule::ExtendedKeyUsage, "anyExtendedKeyUsage");
            }
            for (index, usage) in usages.iter().enumerate() {
                if usages[..index].contains(usage) {
                    findings.add(
                        Rule::ExtendedKeyUsage,
                        format!("{usage} stands there twice"),
                    );
                }
            }
        }
    }
}

fn ocsp_responder(facts: &Facts, findings: &mut Findings) {
    let is_unchecked = facts.has(OCSP_NOCHECK_OID);
    if !facts.signs_ocsp() {
        if is_unchecked {
            findings.add(Rule::OcspResponder, "ocsp-nocheck without OCSPSigning");
        }
        return;
    }
    if !is_unchecked {
        findings.add(Rule::OcspResponder, "OCSPSigning without ocsp-nocheck");
    }
    if facts
        .extended_key_usage
        .as_ref()
        .is_some_and(|usages| usages.0.len() > 1)
    {
        findings.add(Rule::OcspResponder, "OCSPSigning beside other usages");
    }
    if facts.sans.is_some() {
        findings.add(
            Rule::OcspResponder,
            "an OCSP responder with alternative names",
        );
    }
}

fn key_ids(facts: &Facts, issuer: &Issuer<'_>, findings: &mut Findings) {
    let authority = facts
        .authority_key_id
        .as_ref()
        .and_then(|id| id.key_identifier.as_ref());
    match authority {
        None => findings.add(Rule::AuthorityKeyId, "it is missing"),
        Some(id) if id.as_bytes() != issuer.key_id => {
            findings.add(Rule::AuthorityKeyId, "it is not that of the issuer");
        }
        Some(_) => {}
    }
    match &facts.subject_key_id {
        None => findings.add(Rule::SubjectKeyId, "it is missing"),
        Some(id) if id.0.as_bytes().is_empty() || id.0.as_bytes().len() > 32 => {
            findings.add(Rule::SubjectKeyId, "it has not 1 to 32 octets");
        }
        Some(_) => {}
    }
}
