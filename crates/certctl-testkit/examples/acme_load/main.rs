//! How many ACME orders a second a server fulfils: whole signed orders, from new-order to the downloaded chain, by many clients at a
//! time. `cargo xtask bench acme` runs it against certctl and against pebble, so it knows neither.
//!
//! Arguments: the URL of the directory, the root to trust in PEM, `orders CLIENTS SECONDS` or `get PATH REQUESTS`. Prints one line of
//! JSON. Keys and signing requests are made before the clock starts, and each client proves its name once before it.

mod wire;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use certctl_acme::{base64url, client::Signer, key_authorization::key_authorization};
use certctl_domain::{key::KeySpec, name::SubjectAltName};
use certctl_pki::{csr::CsrBuilder, key::PrivateKey};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use wire::{Reply, Site, Wire};

/// How often an order that is being worked on is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Only bounds a hang.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [directory, root, what, first, second] = words[..] else {
        bail!("usage: acme_load DIRECTORY ROOT (orders CLIENTS SECONDS | get PATH REQUESTS)");
    };
    let site = Arc::new(Site::new(directory, &std::fs::read_to_string(root)?)?);
    let said = match what {
        "orders" => orders(&site, first.parse()?, first_seconds(second)?).await?,
        "get" => get(&site, first, second.parse()?).await?,
        other => bail!("{other} is neither orders nor get"),
    };
    println!("{said}");
    Ok(())
}

fn first_seconds(text: &str) -> anyhow::Result<Duration> {
    Ok(Duration::from_secs_f64(text.parse()?))
}

/// Requests without a signature, one after the other on one connection.
async fn get(site: &Site, path: &str, requests: usize) -> anyhow::Result<Value> {
    let mut wire = Wire::open(site).await?;
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    let started = Instant::now();
    for _ in 0..requests {
        let reply = wire.get(path).await?;
        *statuses.entry(reply.status).or_default() += 1;
    }
    let took = started.elapsed().as_secs_f64();
    Ok(json!({"requests": requests, "seconds": took, "statuses": statuses}))
}

async fn orders(site: &Arc<Site>, clients: usize, length: Duration) -> anyhow::Result<Value> {
    let mut joining = JoinSet::new();
    for number in 0..clients {
        let site = Arc::clone(site);
        joining.spawn(async move { Client::join(&site, number).await });
    }
    let mut ready = Vec::new();
    while let Some(client) = joining.join_next().await {
        ready.push(client??);
    }
    let mut working = JoinSet::new();
    let started = Instant::now();
    let end = started + length;
    for mut client in ready {
        working.spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                client.order().await?;
                took.push(begun.elapsed());
            }
            anyhow::Ok((took, client.requests, client.refused_nonces))
        });
    }
    let (mut took, mut requests, mut refused) = (Vec::new(), 0, 0);
    while let Some(done) = working.join_next().await {
        let (one, sent, nonces) = done??;
        took.extend(one);
        requests += sent;
        refused += nonces;
    }
    // Orders that were under way at the end count with the time they took beyond it.
    let seconds = started.elapsed().as_secs_f64();
    took.sort_unstable();
    ensure!(!took.is_empty(), "not one order was fulfilled");
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    Ok(json!({
        "clients": clients, "orders": took.len(), "seconds": seconds, "orders_per_second": took.len() as f64 / seconds,
        "p50_ms": at(0.5), "p99_ms": at(0.99), "requests": requests, "refused_nonces": refused,
    }))
}

/// A client with an account, a connection of its own, and the last nonce it was given.
struct Client {
    wire: Wire,
    signer: Signer,
    kid: String,
    nonce: String,
    name: String,
    csr: String,
    new_order: String,
    requests: usize,
    refused_nonces: usize,
}

impl Client {
    async fn join(site: &Site, number: usize) -> anyhow::Result<Self> {
        let name = format!("load-{number:04}.example.test");
        let key = PrivateKey::generate(KeySpec::EcdsaP256)?;
        let csr = CsrBuilder::new(name.as_str())
            .sans(vec![SubjectAltName::Dns(name.clone())])
            .sign_der(&key)?;
        let signer = Signer::new(PrivateKey::generate(KeySpec::EcdsaP256)?)
            .map_err(|problem| anyhow::anyhow!("no key for an account: {}", problem.detail))?;
        let mut wire = Wire::open(site).await?;
        let directory = wire.get(&site.directory_path).await?.json()?;
        let url = |name: &str| {
            let url = directory[name].as_str();
            url.map(str::to_owned)
                .with_context(|| format!("the directory has no {name}"))
        };
        let (new_account, new_order) = (url("newAccount")?, url("newOrder")?);
        let nonce = wire.get(site.path_of(&url("newNonce")?)?).await?.nonce()?;
        let payload = json!({"termsOfServiceAgreed": true}).to_string();
        let body = signer.sign_with_jwk(&new_account, Some(&nonce), &payload)?;
        let reply = wire.post(&new_account, body).await?;
        ensure!(reply.status < 300, "no account: {}", reply.text());
        let mut client = Self {
            kid: reply.location()?,
            nonce: reply.nonce()?,
            wire,
            signer,
            name,
            csr: base64url::encode(csr),
            new_order,
            requests: 0,
            refused_nonces: 0,
        };
        client.order().await?;
        (client.requests, client.refused_nonces) = (0, 0);
        Ok(client)
    }

    /// One whole order.
    async fn order(&mut self) -> anyhow::Result<()> {
        let payload = json!({"identifiers": [{"type": "dns", "value": self.name}]}).to_string();
        let made = self.post(&self.new_order.clone(), &payload).await?;
        let url = made.location()?;
        let mut order = made.json()?;
        if order["status"] == "pending" {
            self.prove(&order).await?;
            order = self.wait(&url, "ready").await?;
        }
        let finalize = text(&order, "finalize")?;
        let payload = json!({"csr": self.csr}).to_string();
        order = self.post(&finalize, &payload).await?.json()?;
        if order["status"] != "valid" {
            order = self.wait(&url, "valid").await?;
        }
        let chain = self.post(&text(&order, "certificate")?, "").await?;
        ensure!(
            chain.text().starts_with("-----BEGIN CERTIFICATE-----"),
            "no chain"
        );
        Ok(())
    }

    /// Says of every authorisation that it can be looked at; both servers believe it here.
    async fn prove(&mut self, order: &Value) -> anyhow::Result<()> {
        let authorizations = order["authorizations"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for authorization in authorizations.iter().filter_map(Value::as_str) {
            let body = self.post(authorization, "").await?.json()?;
            if body["status"] != "pending" {
                continue;
            }
            let challenge = &body["challenges"][0];
            // What would have to be served; said here so that the cost of making it is that of a client.
            std::hint::black_box(key_authorization(
                &text(challenge, "token")?,
                &self.signer.jwk().thumbprint(),
            ));
            self.post(&text(challenge, "url")?, "{}").await?;
        }
        Ok(())
    }

    async fn wait(&mut self, url: &str, status: &str) -> anyhow::Result<Value> {
        let begun = Instant::now();
        loop {
            let order = self.post(url, "").await?.json()?;
            if order["status"] == status {
                return Ok(order);
            }
            ensure!(
                order["status"] != "invalid",
                "the order came to nothing: {order}"
            );
            ensure!(
                begun.elapsed() < PATIENCE,
                "the order stays as it is: {order}"
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// A signed request; one whose nonce was refused is signed again with the nonce that came with the refusal.
    async fn post(&mut self, url: &str, payload: &str) -> anyhow::Result<Reply> {
        for _ in 0..5 {
            let body = self.signer.sign(&self.kid, url, &self.nonce, payload)?;
            let reply = self.wire.post(url, body).await?;
            self.requests += 1;
            self.nonce = reply.nonce()?;
            if reply.status < 300 {
                return Ok(reply);
            }
            if !reply.text().contains("badNonce") {
                bail!("{url} was answered with {}: {}", reply.status, reply.text());
            }
            self.refused_nonces += 1;
        }
        bail!("{url}: five nonces in a row were refused")
    }
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    let found = value[field].as_str();
    found
        .map(str::to_owned)
        .with_context(|| format!("{field} is missing in {value}"))
}
