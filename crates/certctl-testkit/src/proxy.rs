//! A way to PostgreSQL that can be cut.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Listens on loopback and leads to the server of a URL.
pub struct Proxy {
    /// The URL that leads through it.
    pub url: String,
    cut: watch::Sender<bool>,
    accepting: Arc<AtomicBool>,
}

impl Proxy {
    /// Begins to listen.
    ///
    /// # Panics
    /// When the URL is none of PostgreSQL.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (rest, query) = url.split_once('?').unwrap_or((url, ""));
        let (authority, database) = rest
            .split_once("://")
            .expect("it is a URL")
            .1
            .split_once('/')
            .expect("it names a database");
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.replace("%2F", "/").replace("%2f", "/"))
        };
        let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let user = match parameter("user") {
            Some(user) => user,
            None => user.to_owned(),
        };
        let place = match parameter("host") {
            Some(folder) => format!(
                "{folder}/.s.PGSQL.{}",
                parameter("port").unwrap_or("5432".into())
            ),
            None => place.to_owned(),
        };
        let (cut, seen) = watch::channel(false);
        let accepting = Arc::new(AtomicBool::new(true));
        tokio::spawn(carry(listener, place, seen, Arc::clone(&accepting)));
        Self {
            url: format!("postgres://{user}@127.0.0.1:{port}/{database}?sslmode=disable"),
            cut,
            accepting,
        }
    }

    /// Ends every connection and takes no new one.
    pub fn cut(&self) {
        self.accepting.store(false, Ordering::SeqCst);
        self.cut.send_replace(true);
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.cut.send_replace(false);
        self.accepting.store(true, Ordering::SeqCst);
    }
}

async fn carry(
    listener: TcpListener,
    place: String,
    seen: watch::Receiver<bool>,
    accepting: Arc<AtomicBool>,
) {
    while let Ok((mut near, _)) = listener.accept().await {
        if !accepting.load(Ordering::SeqCst) {
            continue;
        }
        let (place, mut seen) = (place.clone(), seen.clone());
        tokio::spawn(async move {
            let mut far: Box<dyn Stream> = if place.starts_with('/') {
                Box::new(
                    UnixStream::connect(place)
                        .await
                        .expect("the server is there"),
                )
            } else {
                Box::new(
                    TcpStream::connect(place)
                        .await
                        .expect("the server is there"),
                )
            };
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = seen.wait_for(|cut| *cut) => {}
            }
        });
    }
}
