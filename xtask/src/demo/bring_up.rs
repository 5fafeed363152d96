//! The steps until there is something to certify.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::json;

use super::{AGENT, NAME, SERVER, SITE};
use crate::stack::agent::Agent;
use crate::stack::api::{Api, text};
use crate::stack::database::{Backend, Database};
use crate::stack::home::Home;
use crate::stack::server::Server;
use crate::stack::site::Site;
use crate::stack::tls::Visitor;
use crate::stack::wait;

pub(super) fn database(backend: Backend, home: &Home) -> Result<(Database, String)> {
    let database = Database::start(backend, home)?;
    let said = match &database {
        Database::Sqlite => format!(
            "{}, embedded in the server; nothing to start",
            backend.name()
        ),
        Database::Postgres { cluster, .. } => {
            format!(
                "{} of its own, on a socket in {}",
                backend.name(),
                cluster.folder().display()
            )
        }
    };
    Ok((database, said))
}

pub(super) fn server(program: &Path, home: &Home, database: &Database) -> Result<(Server, String)> {
    let mut server = Server::new(program, home, SERVER, database, &[])?;
    let took = server.start()?.as_secs_f64();
    let mib = server.resident_kib()? / 1024;
    let said = format!(
        "ready on {}, {took:.2} s after its start, {mib} MiB resident",
        server.url()
    );
    Ok((server, said))
}

/// To whom a certificate belongs and by what rules it lives.
pub(super) struct Belonging {
    team: String,
    owner: String,
    policy: String,
    profile: String,
}

pub(super) fn belonging(api: &Api) -> Result<(Belonging, String)> {
    let create = |path: &str, body| anyhow::Ok(text(&api.post(path, &body)?, "id")?.to_owned());
    let team = create("/api/v1/teams", json!({ "name": "Platform" }))?;
    let owner = json!({ "name": "Ada", "email": "ada@example.test", "team_id": team });
    let owner = create("/api/v1/owners", owner)?;
    let policy = json!({ "name": "Renew ten days before", "renewal_window_days": 10 });
    let policy = create("/api/v1/renewal-policies", policy)?;
    let profile = json!({
        "name": "47 days on P-256",
        "allowed_key_algorithms": [{ "algorithm": "ECDSA", "min_size": 256 }],
        "max_ttl_seconds": 47 * 86_400,
    });
    let profile = create("/api/v1/profiles", profile)?;
    let said = format!("{team}, {owner}, {policy}, {profile}");
    Ok((
        Belonging {
            team,
            owner,
            policy,
            profile,
        },
        said,
    ))
}

const ISSUER: &str = "iss-local";

pub(super) fn issuer(api: &Api) -> Result<((), String)> {
    api.post(&format!("/api/v1/issuers/{ISSUER}/test"), &json!({}))?;
    let issuer = api.get(&format!("/api/v1/issuers/{ISSUER}"))?;
    let (name, kind, test) = (
        text(&issuer, "name")?,
        text(&issuer, "type")?,
        text(&issuer, "test_status")?,
    );
    Ok(((), format!("{ISSUER} ({name}, {kind}), test {test}")))
}

pub(super) fn agent(
    program: &Path,
    home: &Home,
    server: &Server,
    api: &Api,
) -> Result<(Agent, String)> {
    let agent = Agent::start(program, home, AGENT, server)?;
    let path = format!("/api/v1/agents/{}", agent.id());
    // The registration counts as a sign of life, too; what is waited for is one that the running agent gave.
    let heartbeat = wait::until("the agent is Online and was heard of", || {
        let seen = api.get(&path)?;
        let (heard, registered) = (&seen["last_heartbeat_at"], &seen["registered_at"]);
        let alive = seen["status"] == "Online" && heard != registered;
        Ok(heard.as_str().filter(|_| alive).map(str::to_owned))
    })?;
    let said = format!(
        "{} registered with the bootstrap token, Online, heard of at {heartbeat}",
        agent.id()
    );
    Ok((agent, said))
}

pub(super) fn site(home: &Home, visitor: &Visitor) -> Result<(Site, String)> {
    let site = Site::start(home, SITE, NAME)?;
    // What comes later proves something only if the same look fails now.
    let Err(refusal) = visitor.visit(site.port(), NAME) else {
        bail!("the throwaway certificate is trusted");
    };
    let said = format!(
        "serves {NAME} on 127.0.0.1:{} with a throwaway certificate\nwho trusts our root only is warned: {refusal:#}",
        site.port()
    );
    Ok((site, said))
}

/// Enters target and certificate; the id of the certificate.
pub(super) fn certificate(
    api: &Api,
    agent: &str,
    site: &Site,
    belonging: &Belonging,
) -> Result<String> {
    let target = json!({
        "name": "demo website",
        "type": "NGINX",
        "agent_id": agent,
        "config": site.target_config()?,
    });
    let target = api.post("/api/v1/targets", &target)?;
    let certificate = json!({
        "name": "demo website",
        "common_name": site.name(),
        "sans": [site.name(), format!("www.{}", site.name())],
        "environment": "demo",
        "owner_id": belonging.owner,
        "team_id": belonging.team,
        "issuer_id": ISSUER,
        "renewal_policy_id": belonging.policy,
        "certificate_profile_id": belonging.profile,
        "target_ids": [text(&target, "id")?],
    });
    Ok(text(&api.post("/api/v1/certificates", &certificate)?, "id")?.to_owned())
}
