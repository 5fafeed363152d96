//! Calls of iControl REST, as somebody who has logged in.

use std::{fs, io, sync::Arc, time::Duration};

use certctl_domain::secret::Secret;
use certctl_pki::pem;
use certctl_telemetry::ErrorChain;
use certctl_tls::any_certificate;
use reqwest::{Method, RequestBuilder, Response, Url, redirect::Policy};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::{
    config::{Config, Trust},
    error::Error,
};

/// The longest answer that is read, in bytes: a list of some ten thousand names.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
/// How much of what the appliance says about a refusal is kept, in characters.
const LONGEST_MESSAGE: usize = 1024;

const TOKEN: &str = "X-F5-Auth-Token";

/// Somebody who has logged in. [`Session::close`] ends it: an appliance has room for a hundred tokens of a user.
pub(super) struct Session<'a> {
    http: reqwest::Client,
    base: Url,
    config: &'a Config,
    token: Secret,
}

/// One call, made again when the token has ended meanwhile.
pub(super) struct Call<'a> {
    /// What it is, in words.
    pub(super) name: &'static str,
    pub(super) method: Method,
    /// The path, piece by piece.
    pub(super) path: &'a [&'a str],
    pub(super) content: Content<'a>,
}

/// What a call carries.
pub(super) enum Content<'a> {
    Nothing,
    Json(&'a Value),
    /// JSON that is carried out with the transaction of this number.
    Within(u64, &'a Value),
    /// A piece of a file: the first byte's place, the bytes and the length of the whole.
    Piece(usize, &'a [u8], usize),
    /// Only these fields of what is listed.
    Select(&'static str),
}

impl<'a> Session<'a> {
    /// Logs in.
    pub(super) async fn open(config: &'a Config) -> Result<Self, Error> {
        let trust = config.trust.clone();
        // Roots are read from files.
        let tls = spawn_blocking(move || client_config(&trust)).await;
        let tls = tls.map_err(|_| Error::Interrupted)??;
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .user_agent(concat!("certctl-agent/", env!("CARGO_PKG_VERSION")))
            .timeout(config.timeout)
            .https_only(true)
            .http1_only()
            // An appliance stands beside its agent (agent §11), and a redirect would take its password elsewhere.
            .no_proxy()
            .redirect(Policy::none())
            .build()
            .map_err(Error::Client)?;
        let base = Url::parse(&format!("https://{}/", config.authority));
        let base = base.map_err(|problem| Error::BadAnswer {
            call: "the login",
            problem: problem.to_string(),
        })?;
        let mut session = Self {
            http,
            base,
            config,
            token: Secret::new(""),
        };
        session.log_in().await?;
        Ok(session)
    }

    async fn log_in(&mut self) -> Result<(), Error> {
        const NAME: &str = "the login";
        let body = json!({
            "username": self.config.username,
            "password": self.config.password.expose(),
            "loginProviderName": "tmos",
        });
        let url = self.url(&["mgmt", "shared", "authn", "login"]);
        let reply = self.send(NAME, self.http.post(url).json(&body)).await?;
        let token = reply["token"]["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(Error::BadAnswer {
                call: NAME,
                problem: "there is no token".to_owned(),
            });
        }
        self.token = Secret::new(token);
        Ok(())
    }

    /// Gives the token back. When that fails, it ends by itself after some minutes.
    pub(super) async fn close(self) {
        let path = ["mgmt", "shared", "authz", "tokens", self.token.expose()];
        let request = self.http.delete(self.url(&path));
        let request = request.header(TOKEN, self.token.expose());
        if let Err(problem) = self.send("the logout", request).await {
            tracing::debug!(problem = %ErrorChain(&problem), "the appliance's token was not given back");
        }
    }

    /// The limit of one call.
    pub(super) fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Makes a call and returns its answer.
    pub(super) async fn call(&mut self, call: Call<'_>) -> Result<Value, Error> {
        match self.send(call.name, self.request(&call)).await {
            // The token has ended: an appliance forgets them when it restarts (targets §3.13).
            Err(refused) if refused.status() == Some(401) => {
                self.log_in().await?;
                self.send(call.name, self.request(&call)).await
            }
            done => done,
        }
    }

    /// Makes a call and reads its answer.
    pub(super) async fn read<T: DeserializeOwned>(&mut self, call: Call<'_>) -> Result<T, Error> {
        let name = call.name;
        let answer = self.call(call).await?;
        serde_json::from_value(answer).map_err(|problem| Error::BadAnswer {
            call: name,
            problem: problem.to_string(),
        })
    }

    fn request(&self, call: &Call<'_>) -> RequestBuilder {
        let mut url = self.url(call.path);
        if let Content::Select(fields) = call.content {
            url.query_pairs_mut().append_pair("$select", fields);
        }
        let request = self.http.request(call.method.clone(), url);
        let request = request.header(TOKEN, self.token.expose());
        match call.content {
            Content::Nothing | Content::Select(_) => request,
            Content::Json(body) => request.json(body),
            Content::Within(transaction, body) => request
                .header("X-F5-REST-Coordination-Id", transaction.to_string())
                .json(body),
            Content::Piece(first, bytes, total) => request
                .header("Content-Type", "application/octet-stream")
                .header(
                    "Content-Range",
                    format!("{first}-{}/{total}", first + bytes.len() - 1),
                )
                .body(bytes.to_vec()),
        }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        url
    }

    async fn send(&self, call: &'static str, request: RequestBuilder) -> Result<Value, Error> {
        let unreachable = |source: reqwest::Error| Error::Unreachable {
            call,
            // It names the URL, which may hold the token.
            source: source.without_url(),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let bytes = body(&mut response, call).await?;
        if !status.is_success() {
            return Err(Error::Refused {
                call,
                status: status.as_u16(),
                message: self.said(&bytes),
            });
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|problem| Error::BadAnswer {
            call,
            problem: problem.to_string(),
        })
    }

    /// What the appliance says about a refusal, safe to be handed on: some versions repeat the request in it.
    fn said(&self, body: &[u8]) -> String {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut text = answer["message"]
            .as_str()
            .unwrap_or("no reason given")
            .to_owned();
        for secret in [&self.config.password, &self.token] {
            if !secret.is_empty() {
                text = text.replace(secret.expose(), "********");
            }
        }
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        text.chars().take(LONGEST_MESSAGE).map(printable).collect()
    }
}

async fn body(response: &mut Response, call: &'static str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= LONGEST_ANSWER => {
                bytes.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => {
                return Err(Error::BadAnswer {
                    call,
                    problem: format!("it is longer than {LONGEST_ANSWER} bytes"),
                });
            }
            Ok(None) => return Ok(bytes),
            Err(source) => {
                let source = source.without_url();
                return Err(Error::Unreachable { call, source });
            }
        }
    }
}

/// Appliances of some age speak nothing newer than TLS 1.2 on their management interface.
fn client_config(trust: &Trust) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions");
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Anybody => {
            tracing::warn!(
                "the appliance's certificate is NOT checked: anybody on the way can read its password"
            );
            return Ok(builder
                .dangerous()
                .with_custom_certificate_verifier(any_certificate(provider))
                .with_no_client_auth());
        }
        Trust::System => {
            let found = rustls_native_certs::load_native_certs().certs;
            // Some roots of a system may be unreadable to rustls; the rest still count.
            if roots.add_parsable_certificates(found).0 == 0 {
                return Err(Error::NoRoots);
            }
        }
        Trust::Bundle(path) => {
            let unusable = |source: io::Error| Error::CaBundle {
                path: path.clone(),
                source,
            };
            let text = fs::read_to_string(path).map_err(unusable)?;
            let found = pem::decode_certificates(&text);
            for der in found.map_err(|problem| unusable(io::Error::other(problem)))? {
                let added = roots.add(CertificateDer::from(der));
                added.map_err(|problem| unusable(io::Error::other(problem)))?;
            }
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// How long a commit that is under way is waited for between two looks at it.
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
