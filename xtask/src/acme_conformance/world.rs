//! The server, the resolver and the rows that the clients meet.

use std::process::ExitStatus;

use anyhow::{Context as _, Result};
use certctl_procs::child::{Guard, Guarded};
use certctl_procs::install::Program;
use certctl_procs::ports::free_port;
use serde_json::{Value, json};

use super::client::{Ca, Places};
use crate::stack::api::{Api, text};
use crate::stack::build::Programs;
use crate::stack::database::{Backend, Database};
use crate::stack::home::{Home, append_to, bare};
use crate::stack::server::Server;
use crate::stack::wait::{LIMIT, until};
use crate::stack::{openssl, random};

/// Believes its accounts.
const TRUSTING: &str = "prof-acme-trusting";
/// Has control proved.
const PROVING: &str = "prof-acme-proving";

pub(super) struct World {
    server: Server,
    places: Places,
    folder: std::path::PathBuf,
    is_furnished: bool,
    // Dropped after the server, which uses them.
    _resolver: Guarded,
    _database: Database,
}

impl World {
    /// Starts what the server needs; the server itself is started by [`World::serve`].
    pub(super) fn start(programs: &Programs, home: &Home, backend: Backend) -> Result<Self> {
        let database = Database::start(backend, home)?;
        let folder = home.private_folder("world")?;
        let mut places = Places {
            management: String::new(),
            http: free_port()?,
            tls: free_port()?,
            dns: free_port()?,
        };
        let resolver = resolver(&mut places, &folder)?;
        let (key, encryption) = (random::secret()?, random::secret()?);
        let (dns, http, tls) = (
            format!("127.0.0.1:{}", places.dns),
            places.http.to_string(),
            places.tls.to_string(),
        );
        let mut settings = vec![
            ("CERTCTL_AUTH_SECRET", key.as_str()),
            ("CERTCTL_RATE_LIMIT_ENABLED", "false"),
            ("CERTCTL_ACME_SERVER_ENABLED", "true"),
            ("CERTCTL_ACME_SERVER_DEFAULT_PROFILE_ID", TRUSTING),
            ("CERTCTL_ACME_SERVER_DEFAULT_OWNER_ID", "o-acme-clients"),
            ("CERTCTL_ACME_SERVER_DEFAULT_TEAM_ID", "t-acme-clients"),
            (
                "CERTCTL_ACME_SERVER_DEFAULT_RENEWAL_POLICY_ID",
                "rp-default",
            ),
            ("CERTCTL_ACME_SERVER_ISSUER_ID", "iss-local"),
            ("CERTCTL_ACME_SERVER_DNS01_RESOLVER", dns.as_str()),
            ("CERTCTL_ACME_SERVER_HTTP01_PORT", http.as_str()),
            ("CERTCTL_ACME_SERVER_TLSALPN01_PORT", tls.as_str()),
            // All names lead to this machine.
            (
                "CERTCTL_ACME_SERVER_VALIDATION_ALLOWED_CIDRS",
                "127.0.0.0/8",
            ),
            // All clients come from one address.
            ("CERTCTL_ACME_SERVER_RATE_LIMIT_NEW_ACCOUNTS_PER_HOUR", "0"),
        ];
        if backend == Backend::Sqlite {
            settings.push(("CERTCTL_CONFIG_ENCRYPTION_KEY", encryption.as_str()));
        }
        let server = Server::new(&programs.server, home, "server", &database, &settings)?;
        Ok(Self {
            server,
            places,
            folder,
            is_furnished: false,
            _resolver: resolver,
            _database: database,
        })
    }

    /// Starts the server, again if need be; with bindings asked for or not.
    pub(super) fn serve(&mut self, asks_binding: bool) -> Result<()> {
        if self.server.pid().is_some() {
            self.server.stop()?;
        }
        let value = if asks_binding { "true" } else { "false" };
        self.server.set("CERTCTL_ACME_SERVER_EAB_REQUIRED", value);
        self.server.start()?;
        if !self.is_furnished {
            let api = self.server.api()?;
            furnish(&api)?;
            // A profile that was just made is known within a second.
            until("the directories", || {
                let paths = ["".to_owned(), format!("profile/{PROVING}/")];
                let is_there = |path: &String| api.bytes(&format!("/acme/{path}directory")).is_ok();
                Ok(paths.iter().all(is_there).then_some(()))
            })?;
            self.is_furnished = true;
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<ExitStatus> {
        self.server.stop()
    }

    fn ca(&self, label: &'static str, path: &str, binding: Option<(String, String)>) -> Ca {
        Ca {
            label,
            directory: format!("{}/acme/{path}directory", self.server.url()),
            root: self.server.root(),
            binding,
            places: self.places.clone(),
        }
    }

    /// Below the routes that name no profile.
    pub(super) fn trusting(&self) -> Ca {
        self.ca("trusting", "", None)
    }

    /// Below the routes of a profile.
    pub(super) fn proving(&self) -> Ca {
        self.ca("proving", &format!("profile/{PROVING}/"), None)
    }

    /// The same, with a new key to bind an account by.
    pub(super) fn binding(&self, client: &str) -> Result<Ca> {
        let api = self.server.api()?;
        let made = api.post(
            "/api/v1/acme/eab-keys",
            &json!({"profile_id": PROVING, "kid": format!("{client}-{}", &random::secret()?[..8])}),
        )?;
        let binding = (
            text(&made, "kid")?.to_owned(),
            text(&made, "hmac_key")?.to_owned(),
        );
        Ok(self.ca("bound", &format!("profile/{PROVING}/"), Some(binding)))
    }

    /// The serial numbers of all certificates for a name.
    pub(super) fn serials(&self, name: &str) -> Result<Vec<String>> {
        self.numbers(name, |_| true)
    }

    /// Those of them that are revoked.
    pub(super) fn revoked(&self, name: &str) -> Result<Vec<String>> {
        self.numbers(name, |row| row["status"] == "Revoked")
    }

    fn numbers(&self, name: &str, which: impl Fn(&Value) -> bool) -> Result<Vec<String>> {
        let api = self.server.api()?;
        let rows = api.list("/api/v1/certificates?per_page=500")?;
        let is_for = |row: &Value| {
            row["sans"]
                .as_array()
                .is_some_and(|sans| sans.iter().any(|san| san == name))
        };
        let mut numbers = Vec::new();
        for row in rows.iter().filter(|row| is_for(row) && which(row)) {
            let id = text(row, "id")?;
            for version in api.list(&format!("/api/v1/certificates/{id}/versions"))? {
                numbers.push(text(&version, "serial_number")?.to_owned());
            }
        }
        Ok(numbers)
    }

    /// Waits until openssl finds a serial number in the revocation list.
    pub(super) fn crl_names(&self, serial: &str) -> Result<()> {
        let api = self.server.api()?;
        until("the CRL that names the revoked certificate", || {
            let crl = api.bytes("/.well-known/pki/crl/iss-local")?;
            Ok(openssl::crl_names(&self.folder, &crl, serial)?.then_some(()))
        })
    }
}

/// Everything that certificates belong to.
fn furnish(api: &Api) -> Result<()> {
    api.post(
        "/api/v1/teams",
        &json!({"id": "t-acme-clients", "name": "ACME clients"}),
    )?;
    api.post(
        "/api/v1/owners",
        &json!({"id": "o-acme-clients", "name": "ACME clients", "email": "acme@example.test", "team_id": "t-acme-clients"}),
    )?;
    for (id, mode) in [(TRUSTING, "trust_authenticated"), (PROVING, "challenge")] {
        api.post(
            "/api/v1/profiles",
            &json!({"id": id, "name": id, "acme_auth_mode": mode, "max_ttl_seconds": 30 * 86_400}),
        )
        .with_context(|| format!("no profile {id}"))?;
    }
    Ok(())
}

/// Starts pebble-challtestsrv; names of lego lead to another address, where lego itself answers.
fn resolver(places: &mut Places, folder: &std::path::Path) -> Result<Guarded> {
    let management = free_port()?;
    places.management = format!("http://127.0.0.1:{management}");
    let mut command = bare(
        &Program::Pebble
            .require()?
            .with_file_name("pebble-challtestsrv"),
    );
    command
        .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
        .args(["-https01", "", "-tlsalpn01", ""])
        .args(["-dns01", &format!("127.0.0.1:{}", places.dns)])
        .args(["-http01", &format!("127.0.0.1:{}", places.http)])
        .args(["-management", &format!("127.0.0.1:{management}")]);
    let log = folder.join("challtestsrv.log");
    append_to(&mut command, &log)?;
    let mut process = Guard::default().spawn(command)?;
    let url = places.management.clone();
    let tell = |host: &str| {
        let body = json!({"host": host, "addresses": ["127.0.0.2"]}).to_string();
        ureq::post(format!("{url}/add-a")).send(body).is_ok()
    };
    process.wait_until(&log, LIMIT, || tell("http.lego.test"))?;
    for name in ["tls", "bound", "unbound"] {
        anyhow::ensure!(
            tell(&format!("{name}.lego.test")),
            "pebble-challtestsrv does not listen"
        );
    }
    Ok(process)
}
