//! The CA of our own.

use std::path::PathBuf;

use crate::{
    form::ReadableFile,
    reader::Reader,
    setting::{DefaultValue::Unset, settings},
};

settings!(LOCAL_CA, "Local CA" {
    CA_CERT_PATH: ReadableFile = ReadableFile, Unset, SERVER,
        "The certificate of a CA to sign with, in PEM, followed by its chain. Unset: a root is made in the data directory.";
    CA_KEY_PATH: ReadableFile = ReadableFile, Unset, SERVER, "The private key of that CA, in PEM.";
});

/// The CA of our own.
#[derive(Debug, Clone)]
pub struct LocalCaSettings {
    /// The files of a CA to sign with; `None` means a root in the data directory.
    pub files: Option<CaFiles>,
}

/// The files of a CA, both readable when settings were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFiles {
    /// The certificate in PEM, followed by its chain.
    pub certificate: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}

impl LocalCaSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let files = reader.pair(&CA_CERT_PATH, &CA_KEY_PATH);
        Self {
            files: files.map(|(certificate, key)| CaFiles { certificate, key }),
        }
    }
}
