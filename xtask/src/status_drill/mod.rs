//! `cargo xtask status-drill`: what a revocation means to programs that are not ours.
//!
//! A certificate is issued, deployed into nginx by the agent, and revoked; another one is left alone. Before and after, openssl
//! asks OCSP, fetches the lists, and looks at what nginx staples, all over plain HTTP through a proxy, as verifiers do. The
//! configuration of nginx is that of `docs/operator/revocation.md`.

mod page;
mod verifier;
mod websites;

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use certctl_procs::install::{self, Program};
use serde_json::json;

use crate::stack::agent::Agent;
use crate::stack::api::{Api, text};
use crate::stack::build::{Profile, Programs};
use crate::stack::database::{Backend, Database};
use crate::stack::home::Home;
use crate::stack::interrupt;
use crate::stack::openssl;
use crate::stack::server::Server;
use crate::stack::wait::until;
use crate::step::step;
use verifier::{Status, Verifier};
use websites::{Proxy, Website, Websites};

/// Revoke a certificate before openssl and a stapling nginx: OCSP, CRLs and staples before and after
#[derive(clap::Args)]
pub(crate) struct StatusDrill {
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
}

const ISSUER: &str = "iss-local";
/// Parts of the revocation list.
const SHARDS: u32 = 4;

impl StatusDrill {
    /// On both databases.
    pub(crate) fn everywhere() -> Self {
        Self { database: None }
    }

    pub(crate) fn run(&self) -> Result<()> {
        install::ensure(&[Program::Nginx, Program::OpenSsl])?;
        let programs = step("build", || Programs::build(Profile::cheapest()))?;
        interrupt::listen()?;
        for backend in crate::bench::backends(self.database) {
            step(&format!("status drill on {}", backend.name()), || {
                drill(&programs, backend)
            })?;
        }
        Ok(())
    }
}

fn drill(programs: &Programs, backend: Backend) -> Result<()> {
    let home = Home::create("status-drill")?;
    let database = Database::start(backend, &home)?;
    let settings = [
        ("CERTCTL_TRUSTED_PROXIES", "127.0.0.1/32"),
        ("CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL", "1s"),
    ];
    let mut server = Server::new(&programs.server, &home, "server", &database, &settings)?;
    server.start()?;
    let api = server.api()?;
    let proxy = Proxy::start(&home, &server)?;
    point_at(&api, &proxy)?;
    let websites = Websites::start(&home, &proxy, &server.root())?;
    let agent = Agent::start(&programs.agent, &home, "web-1", &server)?;
    let verifier = Verifier::new(&home, &proxy, &server.root())?;
    let fleet = Fleet::enter(&api)?;
    let revoked = fleet.supply(&api, &agent, &websites, &websites.revoked, &server)?;
    fleet.supply(&api, &agent, &websites, &websites.left_alone, &server)?;
    say("nginx serves two certificates, put there by the agent");
    before(&verifier, &websites)?;
    let asked = Instant::now();
    api.post(
        &format!("/api/v1/certificates/{revoked}/revoke"),
        &json!({ "reason": "keyCompromise" }),
    )?;
    after(&verifier, &websites, asked)?;
    untouched(&verifier, &websites)?;
    let ended = server.stop()?;
    ensure!(ended.success(), "the server ended with {ended}");
    Ok(())
}

fn say(line: &str) {
    eprintln!("    {line}");
}

/// Has certificates say that their status is told by the proxy, and the list in parts.
fn point_at(api: &Api, proxy: &Proxy) -> Result<()> {
    let config = json!({
        "ocsp_url": proxy.ocsp_url(),
        "crl_distribution_point_urls": [proxy.crl_url()],
        "crl_shards": SHARDS,
    });
    let path = format!("/api/v1/issuers/{ISSUER}");
    api.call(
        ureq::http::Method::PUT,
        &path,
        Some(&json!({ "config": config })),
    )?;
    Ok(())
}

/// Every way to ask says good, and nginx staples that.
fn before(verifier: &Verifier, websites: &Websites) -> Result<()> {
    let site = &websites.revoked;
    verifier.names_where_to_ask(&site.certificate)?;
    expect_everywhere(verifier, site, &Status::Good)?;
    say("good: by POST with a nonce, by GET, with the responder pinned (-VAfile)");
    ensure!(
        !verifier.is_on_list(&site.certificate)?,
        "the list names a certificate that is good"
    );
    ensure!(
        !verifier.is_on_downloaded_part(&site.certificate)?,
        "the part of the list names a certificate that is good"
    );
    say("good: by the whole list, and by the part that the certificate points at (-crl_download)");
    staples(verifier, site, "good")?;
    verifier.fetch_staple(&site.certificate, &websites.staple())?;
    websites.staple_from_file()?;
    staples(verifier, &websites.from_file, "good")?;
    // What it had asked for is forgotten with the reload that brought the file.
    staples(verifier, site, "good")?;
    say("good: stapled by nginx, asked by itself and from a file");
    Ok(())
}

/// The same ways say revoked.
fn after(verifier: &Verifier, websites: &Websites, asked: Instant) -> Result<()> {
    let site = &websites.revoked;
    until("OCSP says revoked", || {
        let status = verifier.by_post(&site.certificate)?;
        Ok((status != Status::Good).then_some(()))
    })?;
    let seen = asked.elapsed().as_secs_f64();
    let revoked = Status::Revoked("keyCompromise".to_owned());
    expect_everywhere(verifier, site, &revoked)?;
    say(&format!(
        "revoked: by POST with a nonce ({seen:.2} s after it was asked for), by GET, with the responder pinned"
    ));
    until("the list names the certificate", || {
        Ok(verifier.is_on_list(&site.certificate)?.then_some(()))
    })?;
    until("the part of the list names the certificate", || {
        let is_on_part = verifier.is_on_downloaded_part(&site.certificate)?;
        Ok(is_on_part.then_some(()))
    })?;
    let listed = asked.elapsed().as_secs_f64();
    say(&format!(
        "revoked: by the whole list and by its part (within {listed:.2} s)"
    ));
    let remembered = verifier.stapled(site)?;
    ensure!(
        remembered.as_deref() == Some("good"),
        "nginx was said to keep what it staples until a reload, and staples {remembered:?}"
    );
    verifier.fetch_staple(&site.certificate, &websites.staple())?;
    websites.reload()?;
    staples(verifier, &websites.from_file, "revoked")?;
    // Which nginx looks into with the first handshake after the reload.
    until("nginx learns of the revocation by itself", || {
        let stapled = verifier.stapled(site)?;
        Ok((stapled.is_none() && websites.refused_to_staple()?).then_some(()))
    })?;
    say(
        "revoked: stapled by nginx from a file; asked by itself it logs the revocation and staples nothing more (after a reload)",
    );
    Ok(())
}

/// The certificate that nobody revoked is as good as before.
fn untouched(verifier: &Verifier, websites: &Websites) -> Result<()> {
    let site = &websites.left_alone;
    expect_everywhere(verifier, site, &Status::Good)?;
    ensure!(
        !verifier.is_on_list(&site.certificate)?
            && !verifier.is_on_downloaded_part(&site.certificate)?,
        "a list names a certificate that nobody revoked"
    );
    staples(verifier, site, "good")?;
    say("the certificate that was left alone is good in all these ways");
    Ok(())
}

fn expect_everywhere(verifier: &Verifier, site: &Website, expected: &Status) -> Result<()> {
    let told = [
        ("POST", verifier.by_post(&site.certificate)?),
        ("GET", verifier.by_get(&site.certificate)?),
        (
            "the pinned responder",
            verifier.by_pinned_responder(&site.certificate)?,
        ),
    ];
    for (way, status) in told {
        ensure!(
            status == *expected,
            "{} is {status:?} by {way}, not {expected:?}",
            site.name
        );
    }
    Ok(())
}

/// Waits until nginx staples that; with the first handshake after a start or a reload it staples nothing.
fn staples(verifier: &Verifier, site: &Website, word: &str) -> Result<()> {
    let what = format!("nginx staples {word} for {}", site.name);
    until(&what, || {
        let stapled = verifier.stapled(site)?;
        Ok((stapled.as_deref() == Some(word)).then_some(()))
    })
}

/// To whom the certificates belong.
struct Fleet {
    team: String,
    owner: String,
    policy: String,
}

impl Fleet {
    fn enter(api: &Api) -> Result<Self> {
        let create = |path: &str, body| anyhow::Ok(text(&api.post(path, &body)?, "id")?.to_owned());
        let team = create("/api/v1/teams", json!({ "name": "Drill" }))?;
        let owner = json!({ "name": "Drill", "email": "drill@example.test", "team_id": team });
        Ok(Self {
            owner: create("/api/v1/owners", owner)?,
            policy: create("/api/v1/renewal-policies", json!({ "name": "drill" }))?,
            team,
        })
    }

    /// Has a website's certificate issued and deployed, and waits until it is served; its id.
    fn supply(
        &self,
        api: &Api,
        agent: &Agent,
        websites: &Websites,
        site: &Website,
        server: &Server,
    ) -> Result<String> {
        let target = json!({
            "name": site.name,
            "type": "NGINX",
            "agent_id": agent.id(),
            "config": websites.target_config(site)?,
        });
        let target = api.post("/api/v1/targets", &target)?;
        let certificate = json!({
            "name": site.name, "common_name": site.name, "sans": [site.name],
            "owner_id": self.owner, "team_id": self.team, "issuer_id": ISSUER, "renewal_policy_id": self.policy,
            "target_ids": [text(&target, "id")?],
        });
        let made = api.post("/api/v1/certificates", &certificate)?;
        let id = text(&made, "id")?.to_owned();
        api.post(&format!("/api/v1/certificates/{id}/renew"), &json!({}))?;
        until("nginx serves the certificate", || {
            Ok(openssl::verify(site.port, site.name, &server.root()).ok())
        })
        .with_context(|| format!("{} is not supplied", site.name))?;
        Ok(id)
    }
}
