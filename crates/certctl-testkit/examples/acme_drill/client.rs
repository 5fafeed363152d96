//! A client that goes on.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use certctl_acme::{base64url, client::Signer};
use certctl_domain::{key::KeySpec, name::SubjectAltName};
use certctl_pki::{cert::ParsedCertificate, csr::CsrBuilder, key::PrivateKey};
use serde_json::{Value, json};

use crate::{
    tally::Tally,
    wire::{Reply, Site, Wire},
};

/// Connections of a client, which its requests take by turns: what stands before several servers hands out connections, so that
/// two requests in a row mostly meet different ones.
const CONNECTIONS: usize = 2;
/// Requests after which a connection is made anew, so that a server that comes back gets its share.
const REQUESTS_OF_A_CONNECTION: usize = 32;
/// How often an order that is being worked on is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Before what was lost is asked for again.
const PAUSE: Duration = Duration::from_millis(10);
/// Only bounds a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of an order.
#[derive(Debug)]
pub(crate) enum Ended {
    Valid { id: String, serial: String },
    Abandoned { id: String },
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid { id, serial } => write!(f, "valid {id} {serial}"),
            Self::Abandoned { id } => write!(f, "abandoned {id}"),
        }
    }
}

/// A client with an account and the last nonce it was given.
pub(crate) struct Client {
    wires: Wires,
    signer: Signer,
    kid: String,
    nonce: String,
    name: String,
    csr: String,
    new_order: String,
    tally: Tally,
}

impl Client {
    /// Makes an account. Nothing may go wrong yet.
    pub(crate) async fn join(site: Arc<Site>, number: usize) -> anyhow::Result<Self> {
        let name = format!("drill-{number:04}.example.test");
        let key = PrivateKey::generate(KeySpec::EcdsaP256)?;
        let csr = CsrBuilder::new(name.as_str())
            .sans(vec![SubjectAltName::Dns(name.clone())])
            .sign_der(&key)?;
        let signer = Signer::new(PrivateKey::generate(KeySpec::EcdsaP256)?)
            .map_err(|problem| anyhow::anyhow!("no key for an account: {}", problem.detail))?;
        let mut wires = Wires::new(site);
        let directory = wires.directory().await?;
        let (new_account, new_order) = (
            text(&directory, "newAccount")?,
            text(&directory, "newOrder")?,
        );
        let nonce = wires.get(&text(&directory, "newNonce")?).await?.nonce()?;
        let payload = json!({"termsOfServiceAgreed": true}).to_string();
        let body = signer.sign_with_jwk(&new_account, Some(&nonce), &payload)?;
        let reply = wires.post(&new_account, body).await?;
        ensure!(reply.status < 300, "no account: {}", reply.text());
        Ok(Self {
            kid: reply.location()?,
            nonce: reply.nonce()?,
            wires,
            signer,
            name,
            csr: base64url::encode(csr),
            new_order,
            tally: Tally::default(),
        })
    }

    pub(crate) fn into_tally(self) -> Tally {
        self.tally
    }

    /// One order, to its chain or only made.
    pub(crate) async fn order(&mut self, is_abandoned: bool) -> anyhow::Result<Ended> {
        let begun = Instant::now();
        let payload = json!({"identifiers": [{"type": "dns", "value": self.name}]}).to_string();
        let made = self.post(&self.new_order.clone(), &payload).await?;
        let url = made.location()?;
        let id = url.rsplit('/').next().unwrap_or_default().to_owned();
        if is_abandoned {
            self.tally.abandoned += 1;
            return Ok(Ended::Abandoned { id });
        }
        let finalize = text(&made.json()?, "finalize")?;
        let payload = json!({"csr": self.csr}).to_string();
        let asked = Instant::now();
        let order = self.post(&finalize, &payload).await?.json()?;
        let order = self.until_valid(&url, order).await?;
        let finalizing = asked.elapsed();
        let chain = self.post(&text(&order, "certificate")?, "").await?;
        let leaf = ParsedCertificate::from_pem(&chain.text()).context("the chain")?;
        let tally = &mut self.tally;
        tally.orders += 1;
        tally.longest_finalizing = tally.longest_finalizing.max(finalizing);
        tally.longest_order = tally.longest_order.max(begun.elapsed());
        let serial = leaf.serial().as_str().to_owned();
        Ok(Ended::Valid { id, serial })
    }

    async fn until_valid(&mut self, url: &str, order: Value) -> anyhow::Result<Value> {
        let (begun, mut order) = (Instant::now(), order);
        while order["status"] != "valid" {
            ensure!(
                order["status"] == "processing",
                "the order came to nothing: {order}"
            );
            ensure!(
                begun.elapsed() < PATIENCE,
                "the order stays as it is: {order}"
            );
            tokio::time::sleep(LOOK_AGAIN).await;
            order = self.post(url, "").await?.json()?;
        }
        Ok(order)
    }

    /// A signed request. What is not answered is asked again, with the same nonce: it is used up if the request was heard, and the
    /// refusal brings a fresh one, which has to do.
    async fn post(&mut self, url: &str, payload: &str) -> anyhow::Result<Reply> {
        let begun = Instant::now();
        let mut refused_in_a_row = 0;
        loop {
            ensure!(begun.elapsed() < PATIENCE, "{url} is not answered any more");
            let body = self.signer.sign(&self.kid, url, &self.nonce, payload)?;
            self.tally.requests += 1;
            let Ok(reply) = self.wires.post(url, body).await else {
                self.tally.lost += 1;
                refused_in_a_row = 0;
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if reply.status != 503 {
                self.nonce = reply.nonce()?;
            }
            match reply.status {
                200..300 => return Ok(reply),
                400 if reply.text().contains("badNonce") => {
                    self.tally.refused_nonces += 1;
                    refused_in_a_row += 1;
                    let most = &mut self.tally.refused_in_a_row;
                    *most = refused_in_a_row.max(*most);
                }
                503 => {
                    self.tally.unavailable += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                status => bail!("{url} was answered with {status}: {}", reply.text()),
            }
        }
    }
}

/// The connections of a client.
struct Wires {
    site: Arc<Site>,
    open: [Option<(Wire, usize)>; CONNECTIONS],
    turn: usize,
}

impl Wires {
    fn new(site: Arc<Site>) -> Self {
        Self {
            site,
            open: [const { None }; CONNECTIONS],
            turn: 0,
        }
    }

    async fn directory(&mut self) -> anyhow::Result<Value> {
        let path = self.site.directory_path.clone();
        let (mut wire, used) = self.take().await?;
        let reply = wire.get(&path).await?;
        self.put(wire, used);
        reply.json()
    }

    async fn get(&mut self, url: &str) -> anyhow::Result<Reply> {
        let path = self.site.path_of(url)?.to_owned();
        let (mut wire, used) = self.take().await?;
        let reply = wire.get(&path).await?;
        self.put(wire, used);
        Ok(reply)
    }

    /// # Errors
    /// When there is no answer; the connection is given up then.
    async fn post(&mut self, url: &str, body: String) -> anyhow::Result<Reply> {
        let (mut wire, used) = self.take().await?;
        let reply = tokio::time::timeout(PATIENCE, wire.post(url, body)).await??;
        self.put(wire, used);
        Ok(reply)
    }

    /// The connection whose turn it is.
    async fn take(&mut self) -> anyhow::Result<(Wire, usize)> {
        self.turn = (self.turn + 1) % CONNECTIONS;
        match self.open[self.turn].take() {
            Some(wire) => Ok(wire),
            None => Ok((Wire::open(&self.site).await?, 0)),
        }
    }

    fn put(&mut self, wire: Wire, used: usize) {
        if used + 1 < REQUESTS_OF_A_CONNECTION {
            self.open[self.turn] = Some((wire, used + 1));
        }
    }
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    let found = value[field].as_str();
    found
        .map(str::to_owned)
        .with_context(|| format!("{field} is missing in {value}"))
}
