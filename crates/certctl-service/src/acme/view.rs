//! Profiles, issuers and defaults as they were a moment ago, so that no request has to ask for them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use certctl_acme::{
    resource::{DirectoryBody, DirectoryMeta},
    urls::{Family, Urls},
};
use certctl_domain::{
    acme::{Identifier, Problem, ProblemType, Subproblem},
    id::{IssuerId, OwnerId, ProfileId, TeamId},
    page::PageRequest,
    profile::Profile,
    renewal_policy::RenewalPolicy,
    time::Timestamp,
};
use certctl_repository::{issuers, owners, profiles, renewal_policies, teams};
use regex::Regex;

use super::{Acme, AcmeConfig, Refusal, metrics};
use crate::{Error, Services, engine::request::compile};

/// How old what decides about a certificate may be (design §6).
const FRESH: Duration = Duration::from_secs(1);
/// How old it may be where it is only shown.
const SHOWN: Duration = Duration::from_secs(60);

/// A profile that accounts can be under.
#[derive(Debug)]
pub(super) struct ProfileView {
    pub(super) profile: Profile,
    /// Who signs; none where nobody or several could.
    pub(super) issuer: Option<IssuerId>,
    patterns: Option<Vec<Regex>>,
}

/// What certificates belong to whose account does not say.
#[derive(Debug, Clone)]
pub(super) struct Defaults {
    pub(super) owner: OwnerId,
    pub(super) team: TeamId,
    pub(super) policy: RenewalPolicy,
}

/// What was read.
#[derive(Debug)]
pub(super) struct View {
    profiles: HashMap<ProfileId, Arc<ProfileView>>,
    pub(super) defaults: Option<Defaults>,
}

#[derive(Default)]
pub(super) struct Views {
    last: RwLock<Option<(Timestamp, Arc<View>)>>,
    turn: tokio::sync::Mutex<()>,
}

impl Views {
    fn last(&self, age: Duration, now: Timestamp) -> Option<Arc<View>> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        let (at, view) = last.as_ref()?;
        // Not when it was read in the future, by a clock set back since.
        (*at <= now && now.since(*at) < age).then(|| Arc::clone(view))
    }
}

impl View {
    /// A profile under which there may be accounts.
    pub(super) fn profile(&self, id: &ProfileId) -> Option<&Arc<ProfileView>> {
        self.profiles.get(id)
    }
}

impl ProfileView {
    /// Who signs.
    ///
    /// # Errors
    /// `serverInternal`: nobody is bound, and nobody is the only one (acme-server §2).
    pub(super) fn issuer(&self) -> Result<&IssuerId, Refusal> {
        self.issuer.as_ref().ok_or_else(|| {
            tracing::error!(profile.id = %self.profile.id, "no issuer is bound to a profile of ACME; set acme_issuer_id or CERTCTL_ACME_SERVER_ISSUER_ID");
            not_set_up()
        })
    }

    /// Whether the profile lets a certificate have these names; what does not pass is said of each.
    ///
    /// # Errors
    /// `rejectedIdentifier` with subproblems.
    pub(super) fn admit(&self, identifiers: &[Identifier]) -> Result<(), Problem> {
        let Some(patterns) = &self.patterns else {
            return Err(not_set_up().problem);
        };
        if patterns.is_empty() {
            return Ok(());
        }
        let refused: Vec<Subproblem> = identifiers
            .iter()
            .filter(|name| {
                let text = name.to_string();
                !patterns.iter().any(|pattern| pattern.is_match(&text))
            })
            .map(|name| {
                Subproblem::of(
                    ProblemType::RejectedIdentifier,
                    "the profile does not allow this name",
                    name,
                )
            })
            .collect();
        if refused.is_empty() {
            return Ok(());
        }
        Err(Problem {
            subproblems: refused,
            ..Problem::new(
                ProblemType::RejectedIdentifier,
                "the profile does not allow all of these names",
            )
        })
    }
}

/// Something that operators have to set up is not there; what it is stands in the log.
pub(super) fn not_set_up() -> Refusal {
    Problem::new(
        ProblemType::ServerInternal,
        "the server is not set up to issue under this profile",
    )
    .into()
}

impl Acme {
    /// What decides about a certificate.
    pub(super) async fn view(&self) -> Result<Arc<View>, Error> {
        self.view_of_age(FRESH).await
    }

    async fn view_of_age(&self, age: Duration) -> Result<Arc<View>, Error> {
        let views = &self.state.view;
        let now = self.services.now();
        if let Some(view) = views.last(age, now) {
            return Ok(view);
        }
        let _turn = views.turn.lock().await;
        if let Some(view) = views.last(age, now) {
            return Ok(view);
        }
        let view = Arc::new(read(&self.services, &self.state.config).await?);
        *views.last.write().unwrap_or_else(PoisonError::into_inner) =
            Some((now, Arc::clone(&view)));
        Ok(view)
    }

    /// The profile of a family. Nothing is asked of the database while what is remembered has it.
    ///
    /// # Errors
    /// `userActionRequired`: 403 where the routes that name no profile are bound to none, 404 for a profile that is not there or
    /// disabled.
    pub async fn resolve(&self, family: &Family) -> Result<ProfileId, Refusal> {
        let id = match family {
            Family::Profile(id) => id,
            Family::Shorthand => self.state.config.default_profile.as_ref().ok_or_else(|| {
                Problem::new(
                    ProblemType::UserActionRequired,
                    "no default profile is set; use /acme/profile/{id}/directory",
                )
            })?,
        };
        let has = |view: &View| view.profile(id).is_some();
        if has(&*self.view_of_age(SHOWN).await?) || has(&*self.view().await?) {
            return Ok(id.clone());
        }
        Err(
            Problem::new(ProblemType::UserActionRequired, "there is no such profile")
                .with_status(404)
                .into(),
        )
    }

    /// The directory of a family.
    ///
    /// # Errors
    /// `serverInternal` when the database was needed and cannot be asked.
    pub async fn directory(
        &self,
        urls: &Urls,
        profile: &ProfileId,
    ) -> Result<DirectoryBody, Refusal> {
        let directory = self.directory_of(urls, profile).await;
        metrics::count(metrics::DIRECTORY, &directory);
        directory
    }

    async fn directory_of(
        &self,
        urls: &Urls,
        profile: &ProfileId,
    ) -> Result<DirectoryBody, Refusal> {
        let view = self.view_of_age(SHOWN).await?;
        let config = &self.state.config;
        let profiles: BTreeMap<String, String> = self
            .offered(urls.family(), profile)
            .filter_map(|id| view.profile(id))
            .map(|found| {
                let profile = &found.profile;
                let told = match profile.description.as_str() {
                    "" => profile.name.clone(),
                    text => text.to_owned(),
                };
                (profile.id.to_string(), told)
            })
            .collect();
        let meta = DirectoryMeta {
            terms_of_service: config.terms_url.clone(),
            website: config.website.clone(),
            caa_identities: config.caa_identities.clone(),
            external_account_required: config.eab_required,
            profiles,
        };
        Ok(DirectoryBody::new(urls, config.ari_enabled, meta))
    }

    /// The profiles that an order of a family may choose.
    pub(super) fn offered<'a>(
        &'a self,
        family: &Family,
        profile: &'a ProfileId,
    ) -> impl Iterator<Item = &'a ProfileId> {
        let further: &[ProfileId] = match family {
            Family::Shorthand => &self.state.config.offered_profiles,
            Family::Profile(_) => &[],
        };
        std::iter::once(profile).chain(further)
    }

    /// Everything that keeps ACME from issuing under a profile, in words for the log at the start.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn shortcomings(&self) -> Result<Vec<String>, Error> {
        let view = self.view().await?;
        let config = &self.state.config;
        let mut found = Vec::new();
        if let Some(id) = &config.default_profile
            && view.profile(id).is_none()
        {
            found.push(format!(
                "the default profile {id} of ACME does not exist or is disabled"
            ));
        }
        if view.defaults.is_none() {
            found.push("owner, team or renewal policy of ACME certificates is not set or does not exist; orders will be refused".to_owned());
        }
        let mut unbound: Vec<&str> = view
            .profiles
            .values()
            .filter(|one| one.issuer.is_none())
            .map(|one| one.profile.id.as_str())
            .collect();
        unbound.sort_unstable();
        found.extend(unbound.iter().map(|id| {
            format!("no issuer is bound to profile {id} for ACME, and there is no only enabled one")
        }));
        Ok(found)
    }

    /// The profiles whose accounts are trusted without proof, for the warning at the start (acme-server §2).
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn trusting_profiles(&self) -> Result<Vec<ProfileId>, Error> {
        let view = self.view().await?;
        let trusts = |one: &&Arc<ProfileView>| {
            one.profile.acme_auth_mode == certctl_domain::profile::AcmeAuthMode::TrustAuthenticated
        };
        let mut ids: Vec<ProfileId> = view
            .profiles
            .values()
            .filter(trusts)
            .map(|one| one.profile.id.clone())
            .collect();
        ids.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }
}

async fn read(services: &Services, config: &AcmeConfig) -> Result<View, Error> {
    let mut conn = services.read().await?;
    let mut known = HashMap::new();
    let mut all_issuers = Vec::new();
    for number in 1.. {
        let page = issuers::list(&mut conn, page(number)).await?;
        let is_last = page.rows.len() < PAGE;
        all_issuers.extend(page.rows);
        if is_last {
            break;
        }
    }
    let enabled: Vec<IssuerId> = all_issuers
        .into_iter()
        .filter(|one| one.enabled)
        .map(|one| one.id)
        .collect();
    for number in 1.. {
        let page = profiles::list(&mut conn, page(number)).await?;
        let is_last = page.rows.len() < PAGE;
        for profile in page.rows.into_iter().filter(|profile| profile.enabled) {
            let view = profile_view(profile, &enabled, config);
            known.insert(view.profile.id.clone(), Arc::new(view));
        }
        if is_last {
            break;
        }
    }
    Ok(View {
        profiles: known,
        defaults: defaults(&mut conn, config).await?,
    })
}

/// The rows of a page.
const PAGE: usize = 500;

fn page(number: u32) -> PageRequest {
    PageRequest::lenient(Some(&number.to_string()), Some("500"))
}

/// The binding is explicit, and never the order of a map (acme-server §2).
fn profile_view(profile: Profile, enabled: &[IssuerId], config: &AcmeConfig) -> ProfileView {
    let issuer = match (&profile.acme_issuer_id, &config.issuer, enabled) {
        (Some(bound), ..) | (None, Some(bound), _) => Some(bound.clone()),
        (None, None, [only]) => Some(only.clone()),
        (None, None, _) => None,
    };
    let patterns = profile
        .required_san_patterns
        .iter()
        .map(|pattern| compile(pattern))
        .collect::<Result<Vec<_>, _>>();
    ProfileView {
        profile,
        issuer,
        patterns: patterns.ok(),
    }
}

async fn defaults(
    conn: &mut certctl_repository::Conn,
    config: &AcmeConfig,
) -> Result<Option<Defaults>, Error> {
    fn present<T>(
        found: Result<T, certctl_repository::Error>,
    ) -> Result<Option<T>, certctl_repository::Error> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(certctl_repository::Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
    let (Some(owner), Some(team), Some(policy)) =
        (&config.owner, &config.team, &config.renewal_policy)
    else {
        return Ok(None);
    };
    let owner = present(owners::find(conn, owner).await)?;
    let team = present(teams::find(conn, team).await)?;
    let policy = present(renewal_policies::find(conn, policy).await)?;
    Ok(match (owner, team, policy) {
        (Some(owner), Some(team), Some(policy)) => Some(Defaults {
            owner: owner.id,
            team: team.id,
            policy,
        }),
        _ => None,
    })
}
