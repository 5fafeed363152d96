//! What the agent says about its host.

use serde::Serialize;
use tokio::net::UdpSocket;

/// The body of a heartbeat, and part of a registration. Empty fields change nothing on the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct HostFacts {
    pub(crate) version: String,
    pub(crate) hostname: String,
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) ip_address: String,
}

impl HostFacts {
    /// Looks around; `server` is `host:port` of the server, for the address of the interface that leads there.
    pub(crate) async fn gather(version: &str, server: &str) -> Self {
        Self {
            version: version.to_owned(),
            hostname: hostname(),
            os: match std::env::consts::OS {
                "macos" => "darwin",
                other => other,
            }
            .to_owned(),
            // The names that packages and container images use, which agent groups are matched by.
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .to_owned(),
            ip_address: source_address(server).await.unwrap_or_default(),
        }
    }
}

fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}

/// The address that packets to the server would come from. Connecting a UDP socket sends none.
async fn source_address(server: &str) -> Option<String> {
    for any in ["0.0.0.0:0", "[::]:0"] {
        let socket = UdpSocket::bind(any).await.ok()?;
        if socket.connect(server).await.is_ok() {
            return socket.local_addr().ok().map(|own| own.ip().to_string());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::HostFacts;

    #[tokio::test]
    async fn the_host_is_described_and_a_bad_server_only_leaves_the_address_out() {
        let facts = HostFacts::gather("1.2.3", "127.0.0.1:8443").await;
        assert_eq!(facts.ip_address, "127.0.0.1");
        assert_eq!(facts.version, "1.2.3");
        assert!(!facts.hostname.is_empty() && !facts.os.is_empty());
        assert_eq!(HostFacts::gather("", "").await.ip_address, "");
    }
}
