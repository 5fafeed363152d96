//! The table of settings: the rows of all concerns in one order.

use crate::{
    acme_server, agent, auth, database, encryption, feature, job, local_ca, log, rate_limit,
    scheduler, server,
    setting::{Entry, Group},
    status,
};

/// All groups, in the order of the reference page.
pub(crate) static GROUPS: &[&Group] = &[
    &server::SERVER,
    &database::DATABASE,
    &log::LOG,
    &auth::AUTH,
    &rate_limit::RATE_LIMIT,
    &scheduler::SCHEDULER,
    &status::STATUS,
    &acme_server::ACME_SERVER,
    &job::JOBS,
    &feature::FEATURES,
    &local_ca::LOCAL_CA,
    &encryption::ENCRYPTION,
    &agent::AGENT,
];

/// All settings of all programs.
///
/// A program makes its flags from this; [`crate::Settings::load`] takes what they were given.
pub fn entries() -> impl Iterator<Item = &'static dyn Entry> {
    GROUPS
        .iter()
        .flat_map(|group| group.entries.iter().copied())
}

/// The heading under which a setting stands.
pub(crate) fn title_of(name: &str) -> &'static str {
    GROUPS
        .iter()
        .find(|group| group.entries.iter().any(|entry| entry.name() == name))
        .map_or("", |group| group.title)
}
