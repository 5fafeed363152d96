//! The tables as diesel sees them: one schema for both databases, by the SQL types of [`crate::types`].

mod acme;
mod authority;
mod certificates;
mod fleet;
mod limits;
mod status;
mod store;
mod trail;
mod work;

pub(crate) use acme::*;
pub(crate) use authority::*;
pub(crate) use certificates::*;
pub(crate) use fleet::*;
pub(crate) use status::*;
pub(crate) use store::*;
pub(crate) use trail::*;
pub(crate) use work::*;

diesel::joinable!(certificate_target_mappings -> deployment_targets (target_id));
diesel::joinable!(role_permissions -> permissions (permission_id));
diesel::allow_tables_to_appear_in_same_query!(
    installation,
    tenants,
    roles,
    permissions,
    role_permissions,
    actor_roles,
    api_keys,
    teams,
    owners,
    certificate_profiles,
    renewal_policies,
    policy_rules,
    issuers,
    local_authorities,
    agents,
    agent_groups,
    agent_group_members,
    deployment_targets,
    managed_certificates,
    certificate_target_mappings,
    certificate_versions,
    certificate_revocations,
    policy_violations,
    jobs,
    issuance_intents,
    csr_refusals,
    counters,
    issuance_approval_requests,
    notification_events,
    policy_review,
    scheduler_leases,
    revocation_status,
    crl_cache,
    crl_generation_events,
    ocsp_responders,
    audit_events,
    audit_unsealed,
    audit_keys,
    audit_batches,
    audit_positions,
    audit_marks,
    acme_accounts,
    acme_orders,
    acme_authorizations,
    acme_challenges,
    acme_redeemed_nonces,
    acme_eab_keys,
    acme_failing_names,
);
