//! Becoming an agent: a bootstrap token is exchanged for an id and a key.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use certctl_domain::{id::AgentId, secret::Secret};

use crate::{
    Error,
    config::{Identity, ServerConfig},
    host::HostFacts,
    wire::{Server, body::Registration},
};

/// The file in the key folder in which an agent keeps who it is, when it registered itself.
const IDENTITY_FILE: &str = "agent-identity.env";

/// Registers an agent of this host.
///
/// # Errors
/// [`Error::Refused`] with 401 for a wrong token and 409 for a name that is taken; [`Error::BadAnswer`] when the server does
/// not hand out a key.
pub async fn register(
    server: &ServerConfig,
    token: &Secret,
    name: &str,
) -> Result<Identity, Error> {
    let wire = Server::new(server)?;
    let facts = HostFacts::gather(&server.version, wire.address()).await;
    let registered = wire
        .register(
            token,
            &Registration {
                name,
                facts: &facts,
            },
        )
        .await?;
    let bad = |problem: &str| Error::BadAnswer {
        call: "the registration",
        problem: problem.to_owned(),
    };
    Ok(Identity {
        agent_id: AgentId::parse(&registered.id).map_err(|_| bad("the id is none"))?,
        api_key: registered
            .api_key
            .ok_or_else(|| bad("the server handed out no key"))?,
    })
}

/// Registers an agent and writes its identity to a new file (0600) in the form of an environment file.
///
/// The file is made before the server is called, because the key is shown once and must have a place to go.
///
/// # Errors
/// [`Error::File`] when the file exists or cannot be made, and what [`register`] meets; no file is left then.
pub async fn register_into(
    file: &Path,
    server: &ServerConfig,
    token: &Secret,
    name: &str,
) -> Result<Identity, Error> {
    let mut open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(Error::file("make", file))?;
    let identity = match register(server, token, name).await {
        Ok(identity) => identity,
        Err(failure) => {
            // The failure of the call is the one to report.
            let _: io::Result<()> = fs::remove_file(file);
            return Err(failure);
        }
    };
    let text = Secret::new(environment(server, name, &identity));
    open.write_all(text.expose().as_bytes())
        .and_then(|()| open.sync_all())
        .map_err(Error::file("write", file))?;
    Ok(identity)
}

/// The lines by which the agent is started as this identity. They hold its key.
#[must_use]
pub fn environment(server: &ServerConfig, name: &str, identity: &Identity) -> String {
    let mut text = format!(
        "CERTCTL_SERVER_URL={}\nCERTCTL_AGENT_NAME={name}\nCERTCTL_AGENT_ID={}\nCERTCTL_API_KEY={}\n",
        server.url,
        identity.agent_id,
        identity.api_key.expose()
    );
    if let Some(path) = &server.ca_bundle {
        // The agent will be started from another folder, mostly by a service manager. Without a present folder there is nothing to
        // make it absolute with, and it stays as it was given.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        text += &format!("CERTCTL_SERVER_CA_BUNDLE_PATH={}\n", path.display());
    }
    text
}

/// The identity of an agent that is given a bootstrap token instead of one: what an earlier start kept in the key folder, or
/// that of a registration now.
///
/// # Errors
/// [`Error::Identity`] when the kept file is damaged; otherwise as [`register_into`].
pub async fn remembered_or_registered(
    key_dir: &Path,
    server: &ServerConfig,
    token: &Secret,
    name: &str,
) -> Result<Identity, Error> {
    let file = key_dir.join(IDENTITY_FILE);
    match fs::read_to_string(&file) {
        Ok(text) => return parse(&Secret::new(text)).ok_or(Error::Identity(file)),
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => {}
        Err(reason) => return Err(Error::file("read", file)(reason)),
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(key_dir)
        .map_err(Error::file("make", key_dir))?;
    // Under another name until it is complete, so that a stop in between leaves nothing that looks like an identity.
    let unfinished = unfinished(&file);
    remove_if_there(&unfinished)?;
    let identity = register_into(&unfinished, server, token, name).await?;
    fs::rename(&unfinished, &file).map_err(Error::file("write", &file))?;
    tracing::info!(agent_id = %identity.agent_id, "registered");
    Ok(identity)
}

fn unfinished(file: &Path) -> PathBuf {
    file.with_extension("env.tmp")
}

fn remove_if_there(file: &Path) -> Result<(), Error> {
    match fs::remove_file(file) {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove", file)(reason))
        }
        _ => Ok(()),
    }
}

fn parse(text: &Secret) -> Option<Identity> {
    let value = |name: &str| {
        text.expose()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    Some(Identity {
        agent_id: AgentId::parse(value("CERTCTL_AGENT_ID")?).ok()?,
        api_key: Secret::new(value("CERTCTL_API_KEY").filter(|key| !key.is_empty())?),
    })
}
