//! Connects to PostgreSQL, with TLS as `sslmode` asks.
//!
//! `disable`: none. `prefer` (the default of libpq): encrypted when the server can, without asking who it is, since whoever
//! could pretend to be the server could also pretend that it has no TLS. `require`, `verify-ca` and `verify-full`: the
//! certificate is verified against `sslrootcert` or the roots of the system, and its name is checked; stricter than libpq's
//! `require`, which encrypts to anybody.

use std::{sync::Arc, time::Duration};

use certctl_tls::any_certificate;
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Opens one connection.
pub(crate) async fn connect(url: String) -> ConnectionResult<AsyncPgConnection> {
    let bad = |problem: String| ConnectionError::BadConnection(problem);
    let (url, verify, root) = split_tls_parameters(&url);
    let mut config: tokio_postgres::Config =
        url.parse().map_err(|error: tokio_postgres::Error| {
            ConnectionError::InvalidConnectionUrl(describe(&error))
        })?;
    config
        .application_name("certctl")
        .connect_timeout(Duration::from_secs(10))
        // A server that vanished without a word is noticed in a minute, not in the two hours of the system's default.
        .keepalives_idle(Duration::from_secs(30))
        .tcp_user_timeout(Duration::from_secs(60));
    let local = config
        .get_hosts()
        .iter()
        .all(|host| matches!(host, Host::Unix(_)));
    if verify {
        config.ssl_mode(SslMode::Require);
    }
    if local || config.get_ssl_mode() == SslMode::Disable {
        let (client, connection) = config
            .connect(tokio_postgres::NoTls)
            .await
            .map_err(|error| bad(describe(&error)))?;
        return set_up(
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?,
        )
        .await;
    }
    let verify = verify || config.get_ssl_mode() == SslMode::Require;
    let tls = client_config(verify, root.as_deref()).map_err(bad)?;
    let (client, connection) = config
        .connect(MakeRustlsConnect::new(tls))
        .await
        .map_err(|error| ConnectionError::BadConnection(describe(&error)))?;
    set_up(AsyncPgConnection::try_from_client_and_connection(client, connection).await?).await
}

/// Has the server end a transaction that its client left open and forgot, or its locks would hold up all others for as long as
/// the connection lives. Asked for by a statement, since poolers refuse start-up parameters they do not know.
async fn set_up(mut conn: AsyncPgConnection) -> ConnectionResult<AsyncPgConnection> {
    conn.batch_execute("SET idle_in_transaction_session_timeout = '60s'")
        .await
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// Takes out what tokio-postgres does not know: `sslrootcert` and the verifying modes.
fn split_tls_parameters(url: &str) -> (String, bool, Option<String>) {
    let Some((base, query)) = url.split_once('?') else {
        return (url.to_owned(), false, None);
    };
    let (mut verify, mut root, mut kept) = (false, None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslrootcert", path)) => root = Some(path.replace("%2F", "/")),
            Some(("sslmode", "verify-ca" | "verify-full")) => verify = true,
            Some(("sslmode", "allow")) => kept.push("sslmode=prefer"),
            _ => kept.push(pair),
        }
    }
    let url = if kept.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", kept.join("&"))
    };
    (url, verify, root)
}

fn client_config(verify: bool, root: Option<&str>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if !verify {
        return Ok(builder
            .dangerous()
            // Encrypts without asking to whom.
            .with_custom_certificate_verifier(any_certificate(provider))
            .with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    match root {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path)
                .map_err(|error| format!("sslrootcert {path}: {error}"))?
            {
                let certificate =
                    certificate.map_err(|error| format!("sslrootcert {path}: {error}"))?;
                roots
                    .add(certificate)
                    .map_err(|error| format!("sslrootcert {path}: {error}"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The whole chain of causes: tokio-postgres says only "error connecting to server" itself.
fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::split_tls_parameters;

    #[test]
    fn verifying_modes_and_the_root_are_taken_out_of_the_url() {
        let (url, verify, root) = split_tls_parameters(
            "postgres://u@h/db?sslmode=verify-full&sslrootcert=/etc/ca.pem&user=x",
        );
        assert_eq!(
            (url.as_str(), verify, root.as_deref()),
            ("postgres://u@h/db?user=x", true, Some("/etc/ca.pem"))
        );
        let (url, verify, _) = split_tls_parameters("postgres://u@h/db?sslmode=require");
        assert_eq!(
            (url.as_str(), verify),
            ("postgres://u@h/db?sslmode=require", false)
        );
    }
}
