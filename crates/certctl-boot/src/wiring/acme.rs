//! The ACME server's settings for each crate.

use std::sync::Arc;

use certctl_connectors::acme::{Caa, Config, Validators};
use certctl_domain::id::{IssuerId, RenewalPolicyId};
use certctl_http::AcmeHttp;
use certctl_service::{
    Services,
    acme::{AcmeConfig, AcmePorts},
    first_run::LOCAL_ISSUER,
};
use certctl_settings::Settings;

/// The renewal policy that every database begins with.
const FIRST_POLICY: &str = "rp-default";

/// How the use cases behave; none where the ACME server is switched off.
pub(crate) fn service(settings: &Settings) -> Option<AcmeConfig> {
    let acme = &settings.acme;
    if !acme.enabled {
        return None;
    }
    let config = AcmeConfig {
        default_profile: acme.default_profile_id.clone(),
        offered_profiles: acme.offered_profiles.clone(),
        default_auth_mode: acme.default_auth_mode,
        nonce_ttl: acme.nonce_ttl,
        nonce_secret: settings.encryption.key.clone(),
        order_ttl: acme.order_ttl,
        authz_ttl: acme.authorization_ttl,
        http01_concurrency: acme.validation.http01_concurrency,
        dns01_concurrency: acme.validation.dns01_concurrency,
        tlsalpn01_concurrency: acme.validation.tls_alpn01_concurrency,
        ari_enabled: acme.ari_enabled,
        ari_poll_interval: acme.ari_poll_interval,
        orders_per_hour: acme.limits.orders_per_hour,
        concurrent_orders: acme.limits.concurrent_orders,
        key_changes_per_hour: acme.limits.key_changes_per_hour,
        challenge_responds_per_hour: acme.limits.challenge_responds_per_hour,
        new_accounts_per_hour: acme.limits.new_accounts_per_hour,
        terms_url: acme.terms_url.clone(),
        website: acme.website.clone(),
        caa_identities: acme.caa_identities.clone(),
        eab_required: acme.eab_required,
        owner: acme.default_owner_id.clone(),
        team: acme.default_team_id.clone(),
        renewal_policy: acme.default_renewal_policy_id.clone(),
        issuer: acme.issuer_id.clone(),
        retention: acme.order_retention,
        ..AcmeConfig::default()
    };
    Some(if acme.by_default {
        with_first_rows(config)
    } else {
        config
    })
}

/// What nobody configured is what the first start makes.
fn with_first_rows(config: AcmeConfig) -> AcmeConfig {
    let (profile, owner, team) = Services::acme_rows();
    AcmeConfig {
        default_profile: config.default_profile.or(Some(profile)),
        owner: config.owner.or(Some(owner)),
        team: config.team.or(Some(team)),
        renewal_policy: config
            .renewal_policy
            .or_else(|| Some(RenewalPolicyId::from_stored(FIRST_POLICY.to_owned()))),
        issuer: config
            .issuer
            .or_else(|| Some(IssuerId::from_stored(LOCAL_ISSUER.to_owned()))),
        ..config
    }
}

/// What looks at challenges, and at CAA records where the server is known by a name.
pub(crate) fn ports(settings: &Settings) -> AcmePorts {
    let acme = &settings.acme;
    if !acme.enabled {
        return AcmePorts::default();
    }
    let config = Config {
        resolver: acme.validation.resolver,
        block_private: acme.validation.block_private,
        allowed_networks: acme
            .validation
            .allowed
            .iter()
            .filter_map(super::same)
            .collect(),
        http_port: acme.validation.http_port,
        tls_port: acme.validation.tls_port,
        ..Config::default()
    };
    let identities = &acme.caa_identities;
    AcmePorts {
        validator: Some(Arc::new(Validators::new(&config))),
        caa: (!identities.is_empty()).then(|| Arc::new(Caa::new(&config, identities)) as _),
    }
}

pub(crate) fn http(settings: &Settings) -> AcmeHttp {
    AcmeHttp {
        base_url: settings.acme.base_url.clone(),
        allowed: settings
            .acme
            .allowed
            .iter()
            .filter_map(super::same)
            .collect(),
        unsigned_per_second: settings.acme.limits.unsigned_per_second,
    }
}

/// The directory to give to clients; with the place for a profile in it where none is the default.
pub(crate) fn directory(settings: &Settings, services: &Services, url: &str) -> Option<String> {
    let acme = services.acme()?;
    let origin = settings.acme.base_url.as_deref().unwrap_or(url);
    Some(match acme.config().default_profile {
        Some(_) => format!("{origin}/acme/directory"),
        None => format!("{origin}/acme/profile/{{id}}/directory"),
    })
}
