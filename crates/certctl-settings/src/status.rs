//! CRLs and OCSP.

use std::{path::PathBuf, time::Duration};

use crate::{
    form::{Count, Path},
    reader::Reader,
    setting::{
        DefaultValue::{Derived, Text},
        settings,
    },
    span::Span,
};

settings!(STATUS, "Revocation services" {
    CRL_GENERATION_INTERVAL: Span = Span::at_least_seconds(60), Text("1h"), SERVER,
        "How often revocation lists are made anew; when something was revoked they are made within seconds.";
    OCSP_RESPONDER_KEY_DIR: Path = Path, Derived("in the database with an encryption key, else `<DATA_DIR>/ocsp`"), SERVER,
        "Where the keys of OCSP responders are kept, as files that only the server may read. Replicas that are given a folder share it.";
    OCSP_RESPONDER_VALIDITY: Span = Span::at_least_seconds(3600), Text("720h"), SERVER,
        "How long the certificate of an OCSP responder lives.";
    OCSP_RESPONDER_ROTATION_GRACE: Span = Span::at_least_seconds(60), Text("168h"), SERVER,
        "How long before the end of its certificate an OCSP responder is replaced.";
    OCSP_RATE_LIMIT_PER_IP_MIN: Count = Count { min: 0, max: 100_000_000 }, Text("1000"), SERVER,
        "Questions that an address may ask of the OCSP responder in a minute; 0 means no limit.";
});

/// CRLs and OCSP.
#[derive(Debug, Clone)]
pub struct StatusSettings {
    /// Between two lists of an issuer of which nothing was revoked.
    pub crl_interval: Duration,
    /// The folder of the keys of OCSP responders; `None` to keep them in the database, sealed.
    pub responder_keys: Option<PathBuf>,
    /// How long the certificate of an OCSP responder lives.
    pub responder_validity: Duration,
    /// How long before its end it is replaced.
    pub responder_grace: Duration,
    /// Questions that an address may ask in a minute; 0 for no limit.
    pub ocsp_per_minute: u32,
}

impl StatusSettings {
    /// `sealed` tells whether there is a key to seal keys with in the database.
    pub(crate) fn read(reader: &mut Reader<'_>, data_dir: &std::path::Path, sealed: bool) -> Self {
        let beside = data_dir.join("ocsp");
        let folder = reader.derive(&OCSP_RESPONDER_KEY_DIR, |_| {
            let shown = if sealed {
                String::new()
            } else {
                beside.display().to_string()
            };
            (if sealed { PathBuf::new() } else { beside }, shown)
        });
        let validity = reader.get(&OCSP_RESPONDER_VALIDITY);
        let grace = reader.get(&OCSP_RESPONDER_ROTATION_GRACE);
        if grace >= validity {
            // Each would be replaced as soon as it is made.
            reader.refuse(crate::problem::Problem::refused(
                "CERTCTL_OCSP_RESPONDER_ROTATION_GRACE",
                "must be shorter than CERTCTL_OCSP_RESPONDER_VALIDITY",
            ));
        }
        Self {
            crl_interval: reader.get(&CRL_GENERATION_INTERVAL),
            responder_keys: (!folder.as_os_str().is_empty()).then_some(folder),
            responder_validity: validity,
            responder_grace: grace,
            ocsp_per_minute: reader.get(&OCSP_RATE_LIMIT_PER_IP_MIN),
        }
    }
}
