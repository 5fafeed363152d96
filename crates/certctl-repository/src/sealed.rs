//! Every column whose values are sealed at rest (operations §9), for what must look at all of them: the check at the start,
//! and the change of keys.
//!
//! A column that is added to the schema gets a row in the table below, and is checked and sealed anew like the others.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::{
        acme_eab_keys, audit_keys, certificate_versions, deployment_targets, issuance_intents,
        issuers, local_authorities, ocsp_responders,
    },
};

/// A sealed value, and how to find it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValue {
    /// The key of its row.
    pub key: String,
    /// What of the row it is sealed for; mostly its key.
    pub row: String,
    /// The value.
    pub blob: Vec<u8>,
}

macro_rules! columns {
    ($($(#[$meta:meta])* $variant:ident: $table:ident, $key:ident, $column:ident, sealed for $place:literal $row:ident;)+) => {
        /// A column of sealed values.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum SealedColumn {
            $($(#[$meta])* $variant),+
        }

        impl SealedColumn {
            /// All of them. What is moved from one to another stands first in the one it comes from.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The column, written `table:column`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!(stringify!($table), ":", stringify!($column))),+
                }
            }

            /// What a value of a row is sealed for, written `table:column:row`.
            #[must_use]
            pub fn place(self, row: &str) -> String {
                match self {
                    $(Self::$variant => format!(concat!($place, ":{}"), row)),+
                }
            }
        }

        /// Reads the sealed values of the rows after a key, in the order of their keys, at most `limit`.
        ///
        /// # Errors
        /// What the database says.
        pub async fn page(conn: &mut Conn, column: SealedColumn, after: &str, limit: u32) -> Result<Vec<SealedValue>, Error> {
            let rows: Vec<(String, String, Option<Vec<u8>>)> = match column {
                $(SealedColumn::$variant => on_conn!(conn, c => $table::table
                    .filter($table::$column.is_not_null())
                    .filter($table::$key.gt(after))
                    .order($table::$key)
                    .limit(i64::from(limit))
                    .select(($table::$key, $table::$row, $table::$column.nullable()))
                    .load(c)
                    .await)?),+
            };
            let value = |(key, row, blob): (String, String, Option<Vec<u8>>)| Some(SealedValue { key, row, blob: blob? });
            Ok(rows.into_iter().filter_map(value).collect())
        }

        /// Puts another value in the place of one, unless it was changed meanwhile: then false.
        ///
        /// # Errors
        /// What the database says.
        pub async fn replace(conn: &mut Conn, column: SealedColumn, before: &SealedValue, after: &[u8]) -> Result<bool, Error> {
            let changed = match column {
                $(SealedColumn::$variant => {
                    let unchanged = $table::table.find(&before.key).filter($table::$column.eq(&before.blob));
                    on_conn!(conn, c => diesel::update(unchanged).set($table::$column.eq(after)).execute(c).await)?
                }),+
            };
            Ok(changed == 1)
        }
    };
}

columns! {
    /// The configurations of issuers.
    IssuerConfigs: issuers, id, encrypted_config, sealed for "issuers:encrypted_config" id;
    /// The configurations of targets.
    TargetConfigs: deployment_targets, id, encrypted_config, sealed for "deployment_targets:encrypted_config" id;
    /// The keys of CAs that replicas share.
    AuthorityKeys: local_authorities, issuer_id, private_key, sealed for "local_authorities:private_key" issuer_id;
    /// The keys that the server made and that are about to be certified. They move to the version as they are, so that they are
    /// sealed for it, by the serial number that both have.
    IntentKeys: issuance_intents, job_id, encrypted_private_key, sealed for "certificate_versions:encrypted_private_key" serial_number;
    /// The keys that the server made and that are certified.
    VersionKeys: certificate_versions, id, encrypted_private_key, sealed for "certificate_versions:encrypted_private_key" serial_number;
    /// The keys of OCSP responders.
    ResponderKeys: ocsp_responders, issuer_id, encrypted_key, sealed for "ocsp_responders:encrypted_key" issuer_id;
    /// The keys that sign the audit trail.
    AuditKeys: audit_keys, key_id, private_key, sealed for "audit_keys:private_key" key_id;
    /// The keys that bind ACME accounts to accounts elsewhere.
    EabKeys: acme_eab_keys, id, hmac_ciphertext, sealed for "acme_eab_keys:hmac_ciphertext" id;
}
