//! The number that counts the changes of who may do what. Triggers count it, in the transaction of the change.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, schema::access_version};

/// The channel on which PostgreSQL tells of a change when it is committed.
pub const CHANNEL: &str = "certctl_access";

/// Reads the number.
///
/// # Errors
/// What the database says.
pub async fn get(conn: &mut Conn) -> Result<i64, Error> {
    Ok(
        on_conn!(conn, c => access_version::table.find("access").select(access_version::version).first(c).await)?,
    )
}
