//! Subject alternative names between the domain and X.509 (RFC 5280 §4.2.1.6), and subject names.

use std::net::IpAddr;

use certctl_domain::name::{SubjectAltName, check_safe};
use x509_cert::{
    der::{
        Decode, Encode, Tag,
        asn1::{Ia5String, OctetString},
        oid::db::rfc4519::COMMON_NAME,
    },
    ext::pkix::name::{DirectoryString, GeneralName, GeneralNames},
    name::Name,
};

use crate::{Error, asn1};

/// The longest common name that X.509 has room for, in characters (RFC 5280 appendix A, ub-common-name).
pub(crate) const MAX_COMMON_NAME: usize = 64;

/// The names as DER `GeneralNames`.
pub(crate) fn encode(sans: &[SubjectAltName]) -> Result<Vec<u8>, Error> {
    let names = sans
        .iter()
        .map(to_general_name)
        .collect::<Result<GeneralNames, Error>>()?;
    names
        .to_der()
        .map_err(|_| Error::malformed("subject alternative names"))
}

/// One URI as a `GeneralName`.
pub(crate) fn uri(text: &str) -> Result<GeneralName, Error> {
    ia5(text).map(GeneralName::UniformResourceIdentifier)
}

fn to_general_name(san: &SubjectAltName) -> Result<GeneralName, Error> {
    Ok(match san {
        SubjectAltName::Dns(name) => GeneralName::DnsName(ia5(name)?),
        SubjectAltName::Ip(ip) => GeneralName::IpAddress(ip_octets(*ip)?),
        SubjectAltName::Email(name) => GeneralName::Rfc822Name(ia5(name)?),
        SubjectAltName::Uri(name) => GeneralName::UniformResourceIdentifier(ia5(name)?),
    })
}

fn ia5(text: &str) -> Result<Ia5String, Error> {
    Ia5String::new(text).map_err(|_| Error::bad_name(text, "is not ASCII"))
}

fn ip_octets(ip: IpAddr) -> Result<OctetString, Error> {
    match ip {
        IpAddr::V4(ip) => OctetString::new(ip.octets()),
        IpAddr::V6(ip) => OctetString::new(ip.octets()),
    }
    .map_err(|_| Error::malformed("IP address"))
}

/// Reads DER `GeneralNames` of someone who wants them certified: every name must be of a kind that certctl certifies,
/// well-formed and safe to show.
pub(crate) fn decode_strict(der: &[u8]) -> Result<Vec<SubjectAltName>, Error> {
    let names =
        GeneralNames::from_der(der).map_err(|_| Error::malformed("subject alternative names"))?;
    let mut sans = Vec::with_capacity(names.len());
    for name in &names {
        let san = from_general_name(name)?
            .ok_or_else(|| Error::bad_name("", "is of a kind that is not certified"))?;
        if !sans.contains(&san) {
            sans.push(san);
        }
    }
    Ok(sans)
}

/// Reads DER `GeneralNames` of a certificate that exists: names of other kinds are passed over, the rest is taken as it is.
pub(crate) fn decode_lenient(der: &[u8]) -> Result<Vec<SubjectAltName>, Error> {
    Ok(decode_all(der)?.into_iter().flatten().collect())
}

/// The same with none in the place of each name of another kind, for who has to know that there are no others.
pub(crate) fn decode_all(der: &[u8]) -> Result<Vec<Option<SubjectAltName>>, Error> {
    let names =
        GeneralNames::from_der(der).map_err(|_| Error::malformed("subject alternative names"))?;
    Ok(names
        .iter()
        .map(|name| match name {
            GeneralName::DnsName(text) => Some(SubjectAltName::Dns(text.to_string())),
            GeneralName::Rfc822Name(text) => Some(SubjectAltName::Email(text.to_string())),
            GeneralName::UniformResourceIdentifier(text) => {
                Some(SubjectAltName::Uri(text.to_string()))
            }
            GeneralName::IpAddress(octets) => ip_address(octets.as_bytes()).map(SubjectAltName::Ip),
            _ => None,
        })
        .collect())
}

fn from_general_name(name: &GeneralName) -> Result<Option<SubjectAltName>, Error> {
    let (text, is_same_kind): (&str, fn(&SubjectAltName) -> bool) = match name {
        GeneralName::DnsName(text) => (text.as_ref(), |san| matches!(san, SubjectAltName::Dns(_))),
        GeneralName::Rfc822Name(text) => {
            (text.as_ref(), |san| matches!(san, SubjectAltName::Email(_)))
        }
        GeneralName::UniformResourceIdentifier(text) => {
            (text.as_ref(), |san| matches!(san, SubjectAltName::Uri(_)))
        }
        GeneralName::IpAddress(octets) => {
            let ip = ip_address(octets.as_bytes()).ok_or(Error::malformed("IP address"))?;
            return Ok(Some(SubjectAltName::Ip(ip)));
        }
        _ => return Ok(None),
    };
    refuse_deceptive(text)?;
    let san = SubjectAltName::parse(text)
        .map_err(|_| Error::bad_name(text, "is not a well-formed name of its kind"))?;
    // An address dressed as a host name would be matched by nobody, or by someone who should not.
    if is_same_kind(&san) {
        Ok(Some(san))
    } else {
        Err(Error::bad_name(text, "is not of the kind it is marked as"))
    }
}

fn ip_address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Refuses a name that shows as something other than what it is.
pub(crate) fn refuse_deceptive(text: &str) -> Result<(), Error> {
    check_safe(text).map_err(|problem| Error::DeceptiveName {
        name: text.chars().take(64).collect(),
        problem,
    })
}

/// The subject name as DER: the common name alone, or nothing when there is none or it exceeds [`MAX_COMMON_NAME`].
pub(crate) fn subject_der(common_name: &str) -> Vec<u8> {
    if common_name.is_empty() || common_name.chars().count() > MAX_COMMON_NAME {
        return asn1::sequence(&[]);
    }
    // RFC 5280 §4.1.2.4: UTF8String or PrintableString; one for all spares a rule.
    let value = asn1::tlv(Tag::Utf8String, &[common_name.as_bytes()]);
    let oid = asn1::tlv(Tag::ObjectIdentifier, &[COMMON_NAME.as_bytes()]);
    let attribute = asn1::sequence(&[&oid, &value]);
    asn1::sequence(&[&asn1::tlv(Tag::Set, &[&attribute])])
}

/// Every common name of a subject, in order.
pub(crate) fn common_names(name: &Name) -> Result<Vec<String>, Error> {
    name.iter()
        .filter(|attribute| attribute.oid == COMMON_NAME)
        .map(|attribute| {
            // IA5String is none of the choices (RFC 5280 §4.1.2.4) but occurs.
            if let Ok(text) = attribute.value.decode_as::<Ia5String>() {
                return Ok(text.to_string());
            }
            DirectoryString::try_from(&attribute.value)
                .map(String::from)
                .map_err(|_| Error::malformed("common name"))
        })
        .collect()
}
