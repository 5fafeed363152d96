//! The ACME server (acme-server contract §13).

use std::{net::SocketAddr, time::Duration};

use certctl_domain::{
    id::{IssuerId, OwnerId, ProfileId, RenewalPolicyId, TeamId},
    profile::AcmeAuthMode,
};

use crate::{
    database::DatabaseSettings,
    form::{
        Bool, Choice, Count, Fault, Form, HttpsUrl, Integer, Port, Words, split_list, strip_scheme,
    },
    network::{Network, Networks},
    problem::Problem,
    reader::Reader,
    server::ServerSettings,
    setting::{
        DefaultValue::{Derived, Text, Unset},
        settings,
    },
    span::Span,
};

settings!(ACME_SERVER, "ACME server" {
    ACME_SERVER_ENABLED: Bool = Bool, Derived("`true` for this machine alone when neither database nor address is configured, else `false`"), SERVER,
        "Whether certificates can be ordered by ACME (RFC 8555).";
    ACME_SERVER_DEFAULT_AUTH_MODE: Choice<AcmeAuthMode> = Choice(MODES), Text("trust_authenticated"), SERVER,
        "How identifiers are authorised under new profiles that do not say it. `trust_authenticated` believes every account and is for closed networks; `challenge` has control of each name proved.";
    ACME_SERVER_DEFAULT_PROFILE_ID: IdForm<ProfileId> = IdForm(|text| ProfileId::parse(text).ok()), Unset, SERVER,
        "The profile of the routes that name none, below `/acme/`.";
    ACME_SERVER_OFFERED_PROFILES: ProfileIds = ProfileIds, Unset, SERVER,
        "Profiles that clients of those routes may choose in an order, beside the default one (draft-ietf-acme-profiles).";
    ACME_SERVER_NONCE_TTL: Span = Span::at_least_seconds(1), Text("5m"), SERVER, "How long a nonce can be used.";
    ACME_SERVER_ORDER_TTL: Span = Span::at_least_seconds(1), Text("24h"), SERVER, "How long an order can be finalised.";
    ACME_SERVER_AUTHZ_TTL: Span = Span::at_least_seconds(1), Text("24h"), SERVER,
        "How long an authorisation can be proved and used.";
    ACME_SERVER_HTTP01_CONCURRENCY: Integer = AT_ONCE, Text("10"), SERVER,
        "Challenges of the type http-01 that are looked at together; zero or less means 10.";
    ACME_SERVER_DNS01_CONCURRENCY: Integer = AT_ONCE, Text("10"), SERVER,
        "Challenges of the type dns-01 that are looked at together; zero or less means 10.";
    ACME_SERVER_TLSALPN01_CONCURRENCY: Integer = AT_ONCE, Text("10"), SERVER,
        "Challenges of the type tls-alpn-01 that are looked at together; zero or less means 10.";
    ACME_SERVER_DNS01_RESOLVER: SocketAddress = SocketAddress, Text("8.8.8.8:53"), SERVER,
        "The one resolver that challenges and CAA records are looked up with, also the addresses of http-01 and tls-alpn-01.";
    ACME_SERVER_VALIDATION_ALLOWED_CIDRS: Networks = Networks, Unset, SERVER,
        "Reserved networks that challenges may nevertheless lead to, such as loopback. For tests and closed networks only.";
    ACME_SERVER_HTTP01_PORT: Port = Port, Text("80"), SERVER,
        "The port of http-01. Anything else than 80 is for tests and closed networks: RFC 8555 §8.3 fixes it.";
    ACME_SERVER_TLSALPN01_PORT: Port = Port, Text("443"), SERVER,
        "The port of tls-alpn-01. Anything else than 443 is for tests and closed networks: RFC 8737 §3 fixes it.";
    ACME_SERVER_ARI_ENABLED: Bool = Bool, Text("true"), SERVER,
        "Whether clients are told when to renew (RFC 9773).";
    ACME_SERVER_ARI_POLL_INTERVAL: Span = Span::at_least_seconds(1), Text("6h"), SERVER,
        "After how long clients are to ask again when to renew.";
    ACME_SERVER_RATE_LIMIT_ORDERS_PER_HOUR: Count = LIMIT, Text("100"), SERVER,
        "Orders of each account in an hour; 0 means no limit. Renewals that name what they replace do not count.";
    ACME_SERVER_RATE_LIMIT_CONCURRENT_ORDERS: Count = LIMIT, Text("5"), SERVER,
        "Orders of each account that are open at a time; 0 means no limit.";
    ACME_SERVER_RATE_LIMIT_KEY_CHANGE_PER_HOUR: Count = LIMIT, Text("5"), SERVER,
        "Changes of the key of each account in an hour; 0 means no limit.";
    ACME_SERVER_RATE_LIMIT_CHALLENGE_RESPONDS_PER_HOUR: Count = LIMIT, Text("60"), SERVER,
        "Answers to each challenge in an hour; 0 means no limit.";
    ACME_SERVER_RATE_LIMIT_NEW_ACCOUNTS_PER_HOUR: Count = LIMIT, Text("10"), SERVER,
        "Accounts made from each address in an hour; 0 means no limit.";
    ACME_SERVER_RATE_LIMIT_UNAUTH_RPS: Count = LIMIT, Text("0"), SERVER,
        "Requests without signature (directory, nonces, when to renew) of each address in a second; 0 means no limit beyond that of all requests.";
    ACME_SERVER_GC_INTERVAL: Span = Span::ANY, Text("1m"), SERVER,
        "How often what has expired is ended and what is old is removed; 0 turns it off.";
    ACME_SERVER_ORDER_RETENTION: Span = Span::at_least_seconds(1), Text("2160h"), SERVER,
        "How long an order is kept that has ended, and failures of a name; an order whose certificate is in date is kept longer, until that has expired.";
    ACME_SERVER_TOS_URL: WebUrl = WebUrl, Unset, SERVER,
        "Where the terms of service are. When set, an account is made only for who agrees to them.";
    ACME_SERVER_WEBSITE: WebUrl = WebUrl, Unset, SERVER, "Where more is said about this CA.";
    ACME_SERVER_CAA_IDENTITIES: Words = Words, Unset, SERVER,
        "What CAA records call this CA (RFC 8659). When set, CAA records are looked up for orders in the mode `challenge`.";
    ACME_SERVER_EAB_REQUIRED: Bool = Bool, Text("false"), SERVER,
        "Whether an account needs a binding to a key that an operator made (RFC 8555 §7.3.4).";
    ACME_SERVER_DEFAULT_OWNER_ID: IdForm<OwnerId> = IdForm(|text| OwnerId::parse(text).ok()), Unset, SERVER,
        "Who owns what accounts order that are bound to nobody. Without it, and the two below, nothing can be ordered.";
    ACME_SERVER_DEFAULT_TEAM_ID: IdForm<TeamId> = IdForm(|text| TeamId::parse(text).ok()), Unset, SERVER, "The team of certificates that are ordered by ACME.";
    ACME_SERVER_DEFAULT_RENEWAL_POLICY_ID: IdForm<RenewalPolicyId> = IdForm(|text| RenewalPolicyId::parse(text).ok()), Unset, SERVER,
        "The renewal policy of certificates that are ordered by ACME; it says when clients are told to renew.";
    ACME_SERVER_ISSUER_ID: IdForm<IssuerId> = IdForm(|text| IssuerId::parse(text).ok()), Unset, SERVER,
        "Who signs where the profile does not say it. Without it the only enabled issuer does; of several none.";
    ACME_SERVER_BASE_URL: HttpsUrl = HttpsUrl, Unset, SERVER,
        "What URLs given to clients start with. Without it they have the host that the client asked.";
    ACME_SERVER_ALLOWED_CIDRS: Networks = Networks, Derived("everybody; `127.0.0.0/8,::1/128` when it is on without being configured"), SERVER,
        "Who may use ACME at all. Behind a proxy, CERTCTL_TRUSTED_PROXIES tells whose address counts.";
});

const MODES: &[(&str, AcmeAuthMode)] = &[
    (
        AcmeAuthMode::TrustAuthenticated.as_str(),
        AcmeAuthMode::TrustAuthenticated,
    ),
    (AcmeAuthMode::Challenge.as_str(), AcmeAuthMode::Challenge),
];
const AT_ONCE: Integer = Integer {
    min: i64::MIN,
    max: 10_000,
};
/// Beyond it a limit would be none; 0 says that there is none.
const LIMIT: Count = Count {
    min: 0,
    max: 100_000_000,
};
/// Who may use an ACME server that nobody configured.
const THIS_MACHINE: &str = "127.0.0.0/8,::1/128";

/// The ACME server.
#[derive(Debug, Clone)]
pub struct AcmeServerSettings {
    /// Whether it is on.
    pub enabled: bool,
    /// Whether it is on because nothing was configured; then the rows that it needs are made, too.
    pub by_default: bool,
    /// How identifiers are authorised under new profiles that do not say it.
    pub default_auth_mode: AcmeAuthMode,
    /// The profile of the shorthand routes.
    pub default_profile_id: Option<ProfileId>,
    /// Profiles that an order there may choose, beside that one.
    pub offered_profiles: Vec<ProfileId>,
    /// How long a nonce can be used; at least a second.
    pub nonce_ttl: Duration,
    /// How long an order can be finalised; at least a second.
    pub order_ttl: Duration,
    /// How long an authorisation can be proved and used; at least a second.
    pub authorization_ttl: Duration,
    /// How challenges are looked at.
    pub validation: AcmeValidation,
    /// What clients may ask.
    pub limits: AcmeLimits,
    /// Whether clients are told when to renew.
    pub ari_enabled: bool,
    /// After how long they are to ask again; at least a second.
    pub ari_poll_interval: Duration,
    /// How often what has expired is ended; none for never.
    pub gc_interval: Option<Duration>,
    /// How long orders are kept that have ended; at least a second.
    pub order_retention: Duration,
    /// Where the terms of service are.
    pub terms_url: Option<String>,
    /// Where more is said about the CA.
    pub website: Option<String>,
    /// What CAA records call it.
    pub caa_identities: Vec<String>,
    /// Whether accounts must be bound.
    pub eab_required: bool,
    /// Who owns certificates of accounts that are bound to nobody.
    pub default_owner_id: Option<OwnerId>,
    /// Their team.
    pub default_team_id: Option<TeamId>,
    /// Their renewal policy.
    pub default_renewal_policy_id: Option<RenewalPolicyId>,
    /// Who signs where the profile does not say it.
    pub issuer_id: Option<IssuerId>,
    /// What URLs start with, without a slash at the end.
    pub base_url: Option<String>,
    /// Who may use it; nobody in it means everybody.
    pub allowed: Vec<Network>,
}

/// How challenges are looked at.
#[derive(Debug, Clone)]
pub struct AcmeValidation {
    /// Looks together for http-01; at least 1.
    pub http01_concurrency: usize,
    /// Looks together for dns-01; at least 1.
    pub dns01_concurrency: usize,
    /// Looks together for tls-alpn-01; at least 1.
    pub tls_alpn01_concurrency: usize,
    /// The one resolver.
    pub resolver: SocketAddr,
    /// Reserved networks that are connected to all the same.
    pub allowed: Vec<Network>,
    /// The port of http-01.
    pub http_port: u16,
    /// The port of tls-alpn-01.
    pub tls_port: u16,
    /// Whether private networks are not connected to.
    pub block_private: bool,
}

/// What clients may ask; 0 is no limit.
#[derive(Debug, Clone, Copy)]
pub struct AcmeLimits {
    /// Orders of an account in an hour.
    pub orders_per_hour: u32,
    /// Open orders of an account.
    pub concurrent_orders: u32,
    /// Key changes of an account in an hour.
    pub key_changes_per_hour: u32,
    /// Answers to a challenge in an hour.
    pub challenge_responds_per_hour: u32,
    /// Accounts made from an address in an hour.
    pub new_accounts_per_hour: u32,
    /// Unsigned requests of an address in a second.
    pub unsigned_per_second: u32,
}

impl AcmeServerSettings {
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        server: &ServerSettings,
        database: &DatabaseSettings,
    ) -> Self {
        // An address that others reach, or a database that replicas share, is a deployment that somebody has thought about;
        // there it takes a decision to hand out certificates.
        let unconfigured = database.url.is_embedded()
            && !reader.was_given("DATABASE_URL")
            && server.host.is_loopback();
        let mut by_default = false;
        let enabled = reader.derive(&ACME_SERVER_ENABLED, |_| {
            by_default = unconfigured;
            (unconfigured, unconfigured.to_string())
        });
        let allowed = reader.derive(&ACME_SERVER_ALLOWED_CIDRS, |_| {
            let text = if by_default { THIS_MACHINE } else { "" };
            let networks = Networks.parse(text).expect("a constant that a test reads");
            (networks, text.to_owned())
        });
        let gc_interval = reader.get(&ACME_SERVER_GC_INTERVAL);
        let settings = Self {
            enabled,
            by_default,
            default_auth_mode: reader.get(&ACME_SERVER_DEFAULT_AUTH_MODE),
            default_profile_id: reader.find(&ACME_SERVER_DEFAULT_PROFILE_ID),
            offered_profiles: reader
                .find(&ACME_SERVER_OFFERED_PROFILES)
                .unwrap_or_default(),
            nonce_ttl: reader.get(&ACME_SERVER_NONCE_TTL),
            order_ttl: reader.get(&ACME_SERVER_ORDER_TTL),
            authorization_ttl: reader.get(&ACME_SERVER_AUTHZ_TTL),
            validation: AcmeValidation::read(reader, server.block_private_outbound),
            limits: AcmeLimits::read(reader),
            ari_enabled: reader.get(&ACME_SERVER_ARI_ENABLED),
            ari_poll_interval: reader.get(&ACME_SERVER_ARI_POLL_INTERVAL),
            gc_interval: (!gc_interval.is_zero()).then_some(gc_interval),
            order_retention: reader.get(&ACME_SERVER_ORDER_RETENTION),
            terms_url: reader.find(&ACME_SERVER_TOS_URL),
            website: reader.find(&ACME_SERVER_WEBSITE),
            caa_identities: reader.find(&ACME_SERVER_CAA_IDENTITIES).unwrap_or_default(),
            eab_required: reader.get(&ACME_SERVER_EAB_REQUIRED),
            default_owner_id: reader.find(&ACME_SERVER_DEFAULT_OWNER_ID),
            default_team_id: reader.find(&ACME_SERVER_DEFAULT_TEAM_ID),
            default_renewal_policy_id: reader.find(&ACME_SERVER_DEFAULT_RENEWAL_POLICY_ID),
            issuer_id: reader.find(&ACME_SERVER_ISSUER_ID),
            base_url: reader.find(&ACME_SERVER_BASE_URL),
            allowed,
        };
        settings.check(reader);
        settings
    }

    /// A loop that runs more often than once a second would be nothing but load.
    fn check(&self, reader: &mut Reader<'_>) {
        if self
            .gc_interval
            .is_some_and(|interval| interval < Duration::from_secs(1))
        {
            reader.refuse(Problem::refused(
                "CERTCTL_ACME_SERVER_GC_INTERVAL",
                "must be 0 or at least 1s",
            ));
        }
        if self.default_profile_id.is_none() && !self.offered_profiles.is_empty() {
            reader.refuse(Problem::refused(
                "CERTCTL_ACME_SERVER_OFFERED_PROFILES",
                "needs CERTCTL_ACME_SERVER_DEFAULT_PROFILE_ID, whose routes it is for",
            ));
        }
    }
}

impl AcmeValidation {
    fn read(reader: &mut Reader<'_>, block_private: bool) -> Self {
        let at_once = |number: i64| {
            usize::try_from(number)
                .ok()
                .filter(|n| *n > 0)
                .unwrap_or(10)
        };
        Self {
            http01_concurrency: at_once(reader.get(&ACME_SERVER_HTTP01_CONCURRENCY)),
            dns01_concurrency: at_once(reader.get(&ACME_SERVER_DNS01_CONCURRENCY)),
            tls_alpn01_concurrency: at_once(reader.get(&ACME_SERVER_TLSALPN01_CONCURRENCY)),
            resolver: reader.get(&ACME_SERVER_DNS01_RESOLVER),
            allowed: reader
                .find(&ACME_SERVER_VALIDATION_ALLOWED_CIDRS)
                .unwrap_or_default(),
            http_port: reader.get(&ACME_SERVER_HTTP01_PORT),
            tls_port: reader.get(&ACME_SERVER_TLSALPN01_PORT),
            block_private,
        }
    }
}

impl AcmeLimits {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            orders_per_hour: reader.get(&ACME_SERVER_RATE_LIMIT_ORDERS_PER_HOUR),
            concurrent_orders: reader.get(&ACME_SERVER_RATE_LIMIT_CONCURRENT_ORDERS),
            key_changes_per_hour: reader.get(&ACME_SERVER_RATE_LIMIT_KEY_CHANGE_PER_HOUR),
            challenge_responds_per_hour: reader
                .get(&ACME_SERVER_RATE_LIMIT_CHALLENGE_RESPONDS_PER_HOUR),
            new_accounts_per_hour: reader.get(&ACME_SERVER_RATE_LIMIT_NEW_ACCOUNTS_PER_HOUR),
            unsigned_per_second: reader.get(&ACME_SERVER_RATE_LIMIT_UNAUTH_RPS),
        }
    }
}

/// The id of something that is stored.
pub(crate) struct IdForm<T>(fn(&str) -> Option<T>);

impl<T> std::fmt::Debug for IdForm<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdForm")
    }
}

impl<T> Form for IdForm<T> {
    type Value = T;

    fn expected(&self) -> String {
        "an id (1 to 128 characters of A-Z, a-z, 0-9, `.`, `_`, `-`)".to_owned()
    }

    fn parse(&self, text: &str) -> Result<T, Fault> {
        (self.0)(text.trim()).ok_or_else(|| Fault::not(self))
    }
}

/// A comma separated list of ids of profiles.
#[derive(Debug)]
pub(crate) struct ProfileIds;

impl Form for ProfileIds {
    type Value = Vec<ProfileId>;

    fn expected(&self) -> String {
        "a comma separated list of ids".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Vec<ProfileId>, Fault> {
        split_list(text)
            .enumerate()
            .map(|(index, item)| {
                ProfileId::parse(item).map_err(|_| Fault::Entry {
                    position: index + 1,
                    why: "is not an id",
                })
            })
            .collect()
    }
}

/// An IP address with a port. No name: the resolver that is to be asked cannot be asked where it is.
#[derive(Debug)]
pub(crate) struct SocketAddress;

impl Form for SocketAddress {
    type Value = SocketAddr;

    fn expected(&self) -> String {
        "an IP address with a port (8.8.8.8:53, [2001:db8::1]:53)".to_owned()
    }

    fn parse(&self, text: &str) -> Result<SocketAddr, Fault> {
        text.trim()
            .parse()
            .ok()
            .filter(|address: &SocketAddr| address.port() > 0)
            .ok_or_else(|| Fault::not(self))
    }
}

/// A page of the web, for people.
#[derive(Debug)]
pub(crate) struct WebUrl;

impl Form for WebUrl {
    type Value = String;

    fn expected(&self) -> String {
        "an http:// or https:// URL of printable ASCII".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, Fault> {
        let text = text.trim();
        let rest = strip_scheme(text, "https://").or_else(|| strip_scheme(text, "http://"));
        // It stands in a `Link` header between angle brackets (RFC 8288 §3).
        let fits = |rest: &str| {
            !rest.is_empty()
                && !rest.starts_with('/')
                && rest
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'"'))
        };
        if rest.is_some_and(fits) {
            Ok(text.to_owned())
        } else {
            Err(Fault::not(self))
        }
    }
}

#[cfg(test)]
mod tests;
