//! An ACME server on SQLite within a hyper service of one's own: `cargo run -p certctl-boot --example acme_server`.

use std::{convert::Infallible, error::Error};

use certctl_boot::{App, Clock as _, Embedded, Peer, SystemClock, start_metrics};
use certctl_settings::{MapEnv, Settings, Sources};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let own = [
        ("CERTCTL_DATA_DIR", "./acme-data"),
        // The proxy in front of this program speaks HTTPS there; clients are given URLs that start so.
        ("CERTCTL_ACME_SERVER_BASE_URL", "https://acme.example.test"),
    ];
    let embedded = mounted(&own).await?;
    let listener = TcpListener::bind(("127.0.0.1", 8080)).await?;
    println!("curl http://127.0.0.1:8080/acme/directory");
    let serving = tokio::spawn(serve(listener, embedded.acme()));
    // The background work, which signs; it ends with Ctrl-C, after what is under way.
    let stop = CancellationToken::new();
    let stop_on_interrupt = stop.clone().drop_guard();
    tokio::spawn(async move {
        let _guard = stop_on_interrupt;
        let _: std::io::Result<()> = tokio::signal::ctrl_c().await;
    });
    println!("ended in order: {}", embedded.run(stop).await);
    serving.abort();
    Ok(())
}

/// certctl with these settings; with no more than that, for clients on this machine, which are believed.
pub(crate) async fn mounted(settings: &[(&str, &str)]) -> Result<Embedded, Box<dyn Error>> {
    let environment: MapEnv = settings.iter().copied().collect();
    let sources = Sources::from_env(&environment, SystemClock.now());
    let settings = Settings::load(&sources)?.settings;
    Ok(Embedded::build(settings, start_metrics()?).await?)
}

/// Serves a path of one's own, and ACME below `/acme`.
pub(crate) async fn serve(listener: TcpListener, acme: App) -> Result<Infallible, std::io::Error> {
    loop {
        let (stream, address) = listener.accept().await?;
        let router = acme.router();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(address));
            router.clone().oneshot(request)
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
