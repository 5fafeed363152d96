//! Word from one replica to another that something is to be done, by LISTEN and NOTIFY of PostgreSQL.
//!
//! Such a word only shortens the wait: whoever listens also asks at an interval, and once after every new [`Db::listen`],
//! since what was said while nobody listened is lost. SQLite has one process, which wakes its own tasks itself.

use diesel::sql_types::Text;
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use futures_util::StreamExt as _;

use crate::{Conn, Db, Error, postgres_tls, prepared::Prepare as _};

/// Says a word on a channel when the transaction commits, and not at all when it does not. Does nothing on SQLite.
///
/// Commits that say something queue behind one another, so this is called once for a batch, not once for a row.
///
/// # Errors
/// What the database says.
pub async fn notify(conn: &mut Conn, channel: &'static str) -> Result<(), Error> {
    if let Conn::Postgres(object) = conn {
        diesel::sql_query("SELECT pg_notify($1, '')")
            .bind::<Text, _>(channel)
            .prepared()
            .execute(&mut **object)
            .await?;
    }
    Ok(())
}

impl Db {
    /// Listens on channels with a connection of its own.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be reached.
    pub async fn listen(&self, channels: &[&'static str]) -> Result<Listener, Error> {
        let Some(url) = self.postgres_url() else {
            return Ok(Listener(None));
        };
        let mut conn = postgres_tls::connect(url.expose().to_owned())
            .await
            .map_err(|error| Error::Unavailable(Box::new(error)))?;
        for channel in channels {
            let name = channel.replace('"', "\"\"");
            conn.batch_execute(&format!("LISTEN \"{name}\"")).await?;
        }
        Ok(Listener(Some(conn)))
    }
}

/// Hears what is said on channels; without a connection on SQLite, where nothing is.
pub struct Listener(Option<AsyncPgConnection>);

impl Listener {
    /// The channel on which something was said; nothing when the connection has ended, after which the caller listens anew.
    /// On SQLite this waits for ever. A call that is dropped loses nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the connection broke.
    pub async fn recv(&mut self) -> Result<Option<String>, Error> {
        Ok(self.recv_word().await?.map(|(channel, _)| channel))
    }

    /// As [`Self::recv`], with the word that was said.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the connection broke.
    pub async fn recv_word(&mut self) -> Result<Option<(String, String)>, Error> {
        let Some(conn) = &mut self.0 else {
            return std::future::pending().await;
        };
        let mut heard = std::pin::pin!(conn.notifications_stream());
        match heard.next().await {
            Some(Ok(notification)) => Ok(Some((notification.channel, notification.payload))),
            Some(Err(error)) => Err(Error::Unavailable(Box::new(error))),
            None => Ok(None),
        }
    }
}
