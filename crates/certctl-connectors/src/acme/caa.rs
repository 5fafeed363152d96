//! Whom the owner of a name lets issue (RFC 8659), and for whom and how (RFC 8657).

mod record;

use std::time::Duration;

use certctl_domain::{
    acme::{Problem, ProblemType},
    ports::{
        BoxFuture,
        challenge::{CaaChecker, CaaRequest},
    },
};
use hickory_proto::rr::rdata::CAA;
use tokio::time::timeout;

use self::record::Issuer;
use super::{
    Config,
    dns::{self, Resolver},
};

/// Looks CAA records up and reads them.
#[derive(Debug)]
pub struct Caa {
    resolver: Resolver,
    /// In lower case.
    identities: Vec<String>,
    total: Duration,
}

/// What the records say.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Allowed,
    /// With the reason, for whoever asked.
    Forbidden(&'static str),
}

impl Caa {
    /// Checks for a server that is known by `identities`, which are domain names; with none of them every record forbids.
    #[must_use]
    pub fn new(config: &Config, identities: &[String]) -> Self {
        Self {
            resolver: Resolver::new(config),
            identities: identities
                .iter()
                .map(|identity| identity.trim_end_matches('.').to_ascii_lowercase())
                .collect(),
            total: config.limits.total,
        }
    }

    async fn look(&self, request: &CaaRequest) -> Result<(), Problem> {
        let records = relevant(&self.resolver, &request.name)
            .await
            .map_err(|error| dns_problem(&request.name, &error))?;
        let Some((owner, records)) = records else {
            return Ok(());
        };
        match self.verdict(&records, request) {
            Verdict::Allowed => Ok(()),
            Verdict::Forbidden(why) => Err(Problem::new(
                ProblemType::Caa,
                format!("the CAA records of {owner} {why}"),
            )),
        }
    }

    /// RFC 8659 §4 over the relevant record set.
    fn verdict(&self, records: &[CAA], request: &CaaRequest) -> Verdict {
        let is = |record: &CAA, tag: &str| record.tag.eq_ignore_ascii_case(tag);
        let known = [
            "issue",
            "issuewild",
            "iodef",
            "contactemail",
            "contactphone",
            "issuemail",
            "issuevmc",
        ];
        let unknown = |record: &&CAA| !known.iter().any(|tag| is(record, tag));
        // §4.1: whoever marks what we do not know as critical wants to be asked by those who do.
        if records
            .iter()
            .filter(unknown)
            .any(|record| record.issuer_critical)
        {
            return Verdict::Forbidden("have a critical property that is not known here");
        }
        // §4.3: for a wildcard, `issue` counts only where there is no `issuewild`.
        let tag = if request.wildcard && records.iter().any(|record| is(record, "issuewild")) {
            "issuewild"
        } else {
            "issue"
        };
        let mut restricting = records.iter().filter(|record| is(record, tag)).peekable();
        if restricting.peek().is_none() {
            return Verdict::Allowed;
        }
        let mut named = false;
        for record in restricting {
            // §4.2: what is malformed names nobody.
            let Some(issuer) = Issuer::parse(&record.value) else {
                continue;
            };
            if self.identities.iter().any(|own| issuer.is(own)) {
                named = true;
                if issuer.admits(&request.account_uri, request.method) {
                    return Verdict::Allowed;
                }
            }
        }
        Verdict::Forbidden(if named {
            "allow this server to issue, but not to this account by this challenge"
        } else {
            "do not allow this server to issue"
        })
    }
}

impl CaaChecker for Caa {
    fn check<'a>(&'a self, request: &'a CaaRequest) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            timeout(self.total, self.look(request))
                .await
                .unwrap_or_else(|_| {
                    Err(Problem::new(
                        ProblemType::Dns,
                        format!(
                            "looking up the CAA records of {} took too long",
                            request.name
                        ),
                    ))
                })
        })
    }
}

/// The first record set on the way from the name to the root, and whose it is (RFC 8659 §3). The root itself is not asked.
async fn relevant(
    resolver: &Resolver,
    name: &str,
) -> Result<Option<(String, Vec<CAA>)>, dns::Error> {
    let mut owner = name;
    loop {
        match resolver.caa(owner).await {
            Ok(records) if !records.is_empty() => return Ok(Some((owner.to_owned(), records))),
            // What does not exist may still have a parent whose rules hold for it.
            Ok(_) | Err(dns::Error::NoSuchName(_)) => {}
            Err(error) => return Err(error),
        }
        match owner.split_once('.') {
            Some((_, parent)) if !parent.is_empty() => owner = parent,
            _ => return Ok(None),
        }
    }
}

fn dns_problem(name: &str, error: &dns::Error) -> Problem {
    tracing::debug!(
        name,
        error = error as &dyn std::error::Error,
        "CAA records cannot be read"
    );
    Problem::new(
        ProblemType::Dns,
        format!("the CAA records of {name} cannot be looked up: {error}"),
    )
}

#[cfg(test)]
mod tests;
