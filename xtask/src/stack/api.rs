//! The API as a client uses it: over TLS, trusting one root only.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use ureq::http::{Method, Request};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Calls one server with one key.
#[derive(Clone)]
pub(crate) struct Api {
    client: ureq::Agent,
    url: String,
    key: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Api {
    /// A client for the server at `url` (without a slash at its end) that trusts the root in this file.
    pub(crate) fn new(url: &str, root: &Path, key: &str) -> Result<Self> {
        let pem = std::fs::read(root).with_context(|| format!("cannot read {}", root.display()))?;
        let certificate = Certificate::from_pem(&pem)?.to_owned();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[certificate]))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(30)))
            .build();
        Ok(Self {
            client: config.new_agent(),
            url: url.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Sends one request and gives the answer, whatever its status.
    pub(crate) fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let what = format!("{method} {path}");
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        if !self.key.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.key));
        }
        let sent = match body {
            None => self.client.run(request.body(())?),
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.client.run(request.body(body.to_string())?)
            }
        };
        let mut answer = sent.with_context(|| format!("{what} was not answered"))?;
        let text = answer.body_mut().read_to_string();
        Ok(Answer {
            status: answer.status().as_u16(),
            text: text.with_context(|| format!("the answer to {what} broke off"))?,
        })
    }

    /// What a path of anybody's answers with, as it is.
    pub(crate) fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        self.read(path, Request::builder())
    }

    /// What a path answers with to the holder of the key, as it is.
    pub(crate) fn bytes_as_caller(&self, path: &str) -> Result<Vec<u8>> {
        let key = format!("Bearer {}", self.key);
        self.read(path, Request::builder().header("authorization", key))
    }

    fn read(&self, path: &str, request: ureq::http::request::Builder) -> Result<Vec<u8>> {
        let request = request.uri(format!("{}{path}", self.url));
        let mut answer = self
            .client
            .run(request.body(())?)
            .with_context(|| format!("GET {path} was not answered"))?;
        let status = answer.status();
        if !status.is_success() {
            bail!("GET {path} was answered with {status}");
        }
        Ok(answer.body_mut().read_to_vec()?)
    }

    /// Sends one request; a status that is not a success is an error with what the server said.
    pub(crate) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let what = format!("{method} {path}");
        let answer = self.send(method, path, body)?;
        if !(200..300).contains(&answer.status) {
            bail!(
                "{what} was answered with {}: {}",
                answer.status,
                answer.text.trim_end()
            );
        }
        if answer.text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer.text)
            .with_context(|| format!("the answer to {what} is not JSON"))
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(body))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value> {
        self.call(Method::DELETE, path, None)
    }

    /// The rows of the first page of a list.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<Value>> {
        match self.get(path)?["data"].take() {
            Value::Array(rows) => Ok(rows),
            other => bail!("GET {path} is not a list: {other}"),
        }
    }
}

/// A field that must be there, as text.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field]
        .as_str()
        .with_context(|| format!("{field} is missing in {value}"))
}
