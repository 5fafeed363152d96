//! Looks from the agent's host whether a service presents what was deployed (agent §6, steps 7 and 8).

use std::time::Duration;

use certctl_connectors::{
    probe::{Endpoint, Prober},
    target::config::{PostDeployVerify, VERIFY_TIMEOUT},
};
use certctl_domain::{name::is_dns_name, target::TargetType};
use certctl_telemetry::ErrorChain;
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{config::Overrides, wire::body::VerifyRule};

/// The pause where nothing is set: a reload takes a moment.
const DELAY: Duration = Duration::from_secs(2);
/// How often a wrong certificate is looked at again: old workers may answer while they finish.
const LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// What to do, once it is settled who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) enabled: bool,
    timeout: Duration,
    delay: Duration,
}

impl Rule {
    /// What is set on the agent beats what came with the work, which beats the default.
    pub(crate) fn settle(overrides: &Overrides, sent: VerifyRule) -> Self {
        Self {
            enabled: overrides.verify.or(sent.enabled).unwrap_or(true),
            timeout: overrides
                .verify_timeout
                .or(sent.timeout.map(|span| span.0))
                .unwrap_or(VERIFY_TIMEOUT),
            delay: overrides
                .verify_delay
                .or(sent.delay.map(|span| span.0))
                .unwrap_or(DELAY),
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The fingerprint of what is served; empty when nothing was seen.
    pub(crate) actual: String,
    /// Why it is not good.
    pub(crate) problem: Option<String>,
}

/// Where to look; an error when the configuration names a place that cannot be looked at, nothing when there is none.
pub(crate) fn endpoint(
    target_type: TargetType,
    config: &Value,
    common_name: Option<&str>,
) -> Result<Option<Endpoint>, String> {
    let configured = PostDeployVerify::of(config).map_err(|problem| problem.to_string())?;
    match configured.endpoint() {
        Ok(Some(endpoint)) => return Ok(Some(endpoint)),
        Ok(None) => {}
        Err(problem) => return Err(ErrorChain(&problem).to_string()),
    }
    // Only where the host of that name is the one that was deployed to.
    let serves_its_name = matches!(
        target_type,
        TargetType::Nginx
            | TargetType::Apache
            | TargetType::HaProxy
            | TargetType::Traefik
            | TargetType::Caddy
            | TargetType::Envoy
    );
    let name = common_name.filter(|name| {
        serves_its_name
            && !name.starts_with('*')
            && (is_dns_name(name) || name.parse::<std::net::IpAddr>().is_ok())
    });
    Ok(name.map(|name| Endpoint::new(name, 443)))
}

/// Waits for the service to settle, then looks. When the agent is to stop it looks at once.
pub(crate) async fn look(
    prober: &Prober,
    endpoint: &Endpoint,
    rule: Rule,
    expected: &str,
    stop: &CancellationToken,
) -> Seen {
    pause(rule.delay, stop).await;
    let mut seen = look_once(prober, endpoint, rule.timeout, expected).await;
    for _ in 1..LOOKS {
        if seen.problem.is_none() {
            break;
        }
        pause(BETWEEN_LOOKS, stop).await;
        seen = look_once(prober, endpoint, rule.timeout, expected).await;
    }
    seen
}

async fn look_once(prober: &Prober, endpoint: &Endpoint, limit: Duration, expected: &str) -> Seen {
    match prober.probe(endpoint, limit).await {
        Ok(presented) => Seen {
            problem: (presented.fingerprint_sha256 != expected)
                .then(|| format!("{endpoint} presents another certificate")),
            actual: presented.fingerprint_sha256,
        },
        Err(failure) => Seen {
            actual: String::new(),
            problem: Some(ErrorChain(&failure).to_string()),
        },
    }
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = sleep(time) => {}
        () = stop.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certctl_connectors::target::config::Span;
    use certctl_domain::target::TargetType;
    use serde_json::json;

    use super::{Rule, endpoint};
    use crate::{config::Overrides, wire::body::VerifyRule};

    #[test]
    fn the_agents_own_setting_beats_the_servers_which_beats_the_default() {
        let default = Rule::settle(&Overrides::default(), VerifyRule::default());
        assert!(default.enabled);
        assert_eq!(default.delay, Duration::from_secs(2));
        assert_eq!(default.timeout, Duration::from_secs(10));
        let sent = VerifyRule {
            enabled: Some(false),
            timeout: Some(Span(Duration::from_secs(1))),
            delay: None,
        };
        let own = Overrides {
            verify: Some(true),
            ..Overrides::default()
        };
        assert!(!Rule::settle(&Overrides::default(), sent).enabled);
        let rule = Rule::settle(&own, sent);
        assert!(rule.enabled && rule.timeout == Duration::from_secs(1));
    }

    #[test]
    fn it_looks_where_it_is_told_or_where_the_name_must_lead() {
        let at = |target_type, config, name| {
            endpoint(target_type, &config, name).map(|found| found.map(|e| e.to_string()))
        };
        let told = json!({"post_deploy_verify": {"endpoint": "127.0.0.1:8443"}});
        assert_eq!(
            at(TargetType::F5, told, None),
            Ok(Some("127.0.0.1:8443".into()))
        );
        let named = |target_type, name| at(target_type, json!({}), Some(name));
        assert_eq!(
            named(TargetType::Nginx, "a.example"),
            Ok(Some("a.example:443".into()))
        );
        assert_eq!(named(TargetType::Ssh, "a.example"), Ok(None));
        assert_eq!(named(TargetType::Nginx, "*.example"), Ok(None));
        assert_eq!(named(TargetType::Nginx, "x@example.com"), Ok(None));
        assert_eq!(at(TargetType::Nginx, json!({}), None), Ok(None));
        let mail = json!({"post_deploy_verify": {"endpoint": "a:25", "starttls": "smtp"}});
        assert!(
            at(TargetType::Postfix, mail, None)
                .unwrap_err()
                .contains("not supported yet")
        );
    }
}
