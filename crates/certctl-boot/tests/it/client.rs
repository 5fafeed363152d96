//! Requests to a server that was started here.

use certctl_boot::Welcome;

pub(crate) use certctl_testkit::client::{Client, answer, message};

/// Trusts the root that the server says to trust, and nothing else.
pub(crate) fn client(welcome: &Welcome) -> Client {
    let root = welcome
        .root
        .as_ref()
        .expect("the server made its own certificate");
    trusting(welcome, &std::fs::read_to_string(root).unwrap())
}

/// Trusts this root, PEM.
pub(crate) fn trusting(welcome: &Welcome, root: &str) -> Client {
    let port = welcome.url.rsplit_once(':').unwrap().1.parse().unwrap();
    Client::new(port, root)
}
