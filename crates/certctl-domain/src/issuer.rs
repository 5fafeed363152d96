//! Issuers: the CAs that certificates come from.

use crate::{id::IssuerId, text_enum, time::Timestamp};

text_enum! {
    /// A kind of issuer (model §2).
    pub enum IssuerType ("issuer type") {
        /// An ACME CA.
        Acme = "ACME",
        /// The local CA.
        GenericCa = "GenericCA" | "local" | "local_ca",
        /// step-ca.
        StepCa = "StepCA",
        /// Scripts.
        OpenSsl = "OpenSSL",
        /// HashiCorp Vault.
        VaultPki = "VaultPKI",
        /// DigiCert CertCentral.
        DigiCert = "DigiCert",
        /// Sectigo SCM.
        Sectigo = "Sectigo",
        /// Google CAS.
        GoogleCas = "GoogleCAS",
        /// AWS Private CA.
        AwsAcmPca = "AWSACMPCA",
        /// Entrust.
        Entrust = "Entrust",
        /// GlobalSign Atlas.
        GlobalSign = "GlobalSign",
        /// EJBCA.
        Ejbca = "EJBCA",
    }
}

text_enum! {
    /// What the last test of a configuration said.
    pub enum TestStatus ("test status") {
        /// Never tested since the last change.
        Untested = "untested",
        /// The third party answered as it must.
        Success = "success",
        /// It did not.
        Failed = "failed",
    }
}

text_enum! {
    /// Where a configuration comes from.
    pub enum ConfigSource ("config source") {
        /// Made over the API.
        Database = "database",
        /// Made from the environment at the first start.
        Env = "env",
    }
}

text_enum! {
    /// Whether an issuer signs with one CA or with a tree of intermediates.
    pub enum HierarchyMode ("hierarchy mode") {
        /// One CA.
        Single = "single",
        /// A tree.
        Tree = "tree",
    }
}

/// An issuer. The configuration is JSON with declared secrets masked; the full one is sealed beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Issuer {
    /// The id.
    pub id: IssuerId,
    /// The name, unique.
    pub name: String,
    /// The kind.
    pub issuer_type: IssuerType,
    /// The configuration as it may be shown.
    pub config: serde_json::Value,
    /// The full configuration, sealed; absent where it holds no secret.
    pub encrypted_config: Option<Vec<u8>>,
    /// Whether it may issue.
    pub enabled: bool,
    /// When it was last tested.
    pub last_tested_at: Option<Timestamp>,
    /// What that test said.
    pub test_status: TestStatus,
    /// Where it comes from.
    pub source: ConfigSource,
    /// One CA or a tree.
    pub hierarchy_mode: HierarchyMode,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
