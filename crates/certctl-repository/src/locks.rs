//! Locks on rows that are read, changed and written back in one transaction, so that no change between is lost.

use certctl_domain::id::{IssuerId, ProfileId, RenewalPolicyId, TargetId};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::{certificate_profiles, deployment_targets, issuers, renewal_policies},
};

macro_rules! lock {
    ($(#[$meta:meta])* $name:ident, $table:ident, $id:ty) => {
        $(#[$meta])*
        /// Rows that refer to it cannot come into being until the transaction ends.
        ///
        /// # Errors
        /// [`Error::NotFound`] when there is none.
        pub async fn $name(conn: &mut Conn, id: &$id) -> Result<(), Error> {
            let row = $table::table.find(id.as_str()).select($table::id);
            let _: String = on_conn!(conn,
                pg c => row.for_update().first(c).await,
                // The one writer of SQLite has the whole database to itself.
                sqlite c => row.first(c).await,
            )?;
            Ok(())
        }
    };
}

lock!(
    /// Locks an issuer until the end of the transaction.
    issuer,
    issuers,
    IssuerId
);
lock!(
    /// Locks a profile until the end of the transaction.
    profile,
    certificate_profiles,
    ProfileId
);
lock!(
    /// Locks a renewal policy until the end of the transaction.
    renewal_policy,
    renewal_policies,
    RenewalPolicyId
);
lock!(
    /// Locks a target until the end of the transaction.
    target,
    deployment_targets,
    TargetId
);
