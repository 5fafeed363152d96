//! The calls of the agent protocol (api §16, §17).

pub(crate) mod body;

use std::time::Duration;

use certctl_domain::{
    id::{CertificateId, JobId},
    secret::Secret,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, redirect::Policy};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    Error,
    config::{Identity, ServerConfig},
    host::HostFacts,
    report, tls,
};

/// The limit of one call (agent §1).
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// A server that nobody has introduced themselves to yet.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    http: reqwest::Client,
    base: String,
    address: String,
}

/// The server, as one agent calls it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    server: Server,
    identity: Identity,
}

impl Server {
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, Error> {
        let refuse = || Error::ServerUrl(config.url.chars().take(300).collect());
        let url = Url::parse(&config.url).map_err(|_| refuse())?;
        let host = url.host_str().ok_or_else(refuse)?.to_owned();
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        if url.scheme() != "https" || !is_bare || !url.username().is_empty() {
            return Err(refuse());
        }
        let mut builder = reqwest::Client::builder()
            .use_preconfigured_tls(tls::client_config(config)?)
            .user_agent(format!("certctl-agent/{}", config.version))
            .timeout(CALL_LIMIT)
            .https_only(true)
            // A few calls a minute need one connection and nothing that HTTP/2 is good at.
            .http1_only()
            // A redirect would take the API key somewhere else.
            .redirect(Policy::none());
        if matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]") {
            // A proxy could not reach this host's own loopback.
            builder = builder.no_proxy();
        }
        let port = url.port_or_known_default().unwrap_or(443);
        Ok(Self {
            http: builder.build().map_err(Error::Client)?,
            base: config.url.trim_end_matches('/').to_owned(),
            address: format!("{host}:{port}"),
        })
    }

    /// `host:port`, for finding the interface that leads there.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) async fn register(
        &self,
        token: &Secret,
        body: &body::Registration<'_>,
    ) -> Result<body::Registered, Error> {
        let request = self.request(Method::POST, "/api/v1/agents", token);
        read_json("the registration", request.json(body)).await
    }

    fn request(&self, method: Method, path: &str, bearer: &Secret) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(bearer.expose())
    }
}

impl Client {
    pub(crate) fn new(server: Server, identity: Identity) -> Self {
        Self { server, identity }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn api_key(&self) -> &Secret {
        &self.identity.api_key
    }

    pub(crate) async fn heartbeat(&self, facts: &HostFacts) -> Result<(), Error> {
        self.post("the heartbeat", "/heartbeat", facts).await
    }

    pub(crate) async fn work(&self) -> Result<Vec<Value>, Error> {
        let reply: body::WorkReply =
            read_json("the poll for work", self.own(Method::GET, "/work")).await?;
        Ok(reply.jobs)
    }

    pub(crate) async fn submit_csr(&self, csr: &body::Csr<'_>) -> Result<body::CsrReply, Error> {
        let request = self.own(Method::POST, "/csr").json(csr);
        read_json("the signing request", request).await
    }

    pub(crate) async fn certificate(
        &self,
        id: &CertificateId,
    ) -> Result<body::CertificateReply, Error> {
        let request = self.own(Method::GET, &format!("/certificates/{id}"));
        read_json("the fetch of the certificate", request).await
    }

    pub(crate) async fn report(&self, job: &JobId, report: &Value) -> Result<(), Error> {
        let path = format!("/jobs/{job}/status");
        self.post("the report of the job", &path, report).await
    }

    pub(crate) async fn verification(
        &self,
        job: &JobId,
        seen: &body::Verification,
    ) -> Result<(), Error> {
        let path = format!("/api/v1/jobs/{job}/verify");
        let request = self
            .server
            .request(Method::POST, &path, &self.identity.api_key);
        read("the report of the verification", request.json(seen))
            .await
            .map(drop)
    }

    async fn post(
        &self,
        call: &'static str,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<(), Error> {
        let request = self.own(Method::POST, path).json(body);
        read(call, request).await.map(drop)
    }

    fn own(&self, method: Method, path: &str) -> RequestBuilder {
        let path = format!("/api/v1/agents/{}{path}", self.identity.agent_id);
        self.server.request(method, &path, &self.identity.api_key)
    }
}

async fn read_json<T: DeserializeOwned>(
    call: &'static str,
    request: RequestBuilder,
) -> Result<T, Error> {
    let bytes = read(call, request).await?;
    serde_json::from_slice(&bytes).map_err(|problem| Error::BadAnswer {
        call,
        // The category and place only: the text of the answer may hold a key.
        problem: format!(
            "no valid JSON of its kind at line {} column {}",
            problem.line(),
            problem.column()
        ),
    })
}

async fn read(call: &'static str, request: RequestBuilder) -> Result<Zeroizing<Vec<u8>>, Error> {
    let response = request
        .send()
        .await
        .map_err(|source| unreachable(call, source))?;
    let status = response.status();
    let body = bounded_body(call, response).await?;
    if status == StatusCode::GONE {
        return Err(Error::Retired);
    }
    if !status.is_success() {
        return Err(Error::Refused {
            call,
            status: status.as_u16(),
            message: message_of(&body),
        });
    }
    Ok(body)
}

async fn bounded_body(
    call: &'static str,
    mut response: Response,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|source| unreachable(call, source))?
    {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(Error::BadAnswer {
                call,
                problem: "longer than 4 MiB".to_owned(),
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn unreachable(call: &'static str, source: reqwest::Error) -> Error {
    Error::Unreachable {
        call,
        source: source.without_url(),
    }
}

/// What the server says, in either of its error shapes (api §2.1).
fn message_of(body: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(body).ok().and_then(|json| {
        let text = json.get("message").or_else(|| json.get("error"))?;
        text.as_str().map(str::to_owned)
    });
    let said = said.unwrap_or_else(|| "no reason given".to_owned());
    report::safe(&said.chars().take(500).collect::<String>(), &[])
}
