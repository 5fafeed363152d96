//! The tables as diesel sees them: one schema for both databases, by the SQL types of [`crate::types`].

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    installation (key) {
        key -> Text,
        value -> Text,
        created_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    tenants (id) {
        id -> Text,
        name -> Text,
        description -> Text,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    roles (id) {
        id -> Text,
        tenant_id -> Text,
        name -> Text,
        description -> Text,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    permissions (id) {
        id -> Text,
        name -> Text,
        namespace -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    role_permissions (role_id, permission_id, scope_type) {
        role_id -> Text,
        permission_id -> Text,
        scope_type -> Text,
        scope_id -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    actor_roles (id) {
        id -> Text,
        actor_id -> Text,
        actor_type -> Text,
        role_id -> Text,
        granted_at -> UtcTimestamp,
        expires_at -> Nullable<UtcTimestamp>,
        granted_by -> Text,
        tenant_id -> Text,
        scope_type -> Text,
        scope_id -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    api_keys (id) {
        id -> Text,
        name -> Text,
        key_hash -> Text,
        tenant_id -> Text,
        admin -> Bool,
        created_by -> Text,
        created_at -> UtcTimestamp,
        expires_at -> Nullable<UtcTimestamp>,
        last_used_at -> Nullable<UtcTimestamp>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    teams (id) {
        id -> Text,
        name -> Text,
        description -> Text,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    owners (id) {
        id -> Text,
        name -> Text,
        email -> Text,
        team_id -> Text,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    certificate_profiles (id) {
        id -> Text,
        name -> Text,
        description -> Text,
        allowed_key_algorithms -> JsonDoc,
        max_ttl_seconds -> Integer,
        allowed_ekus -> TextList,
        required_san_patterns -> TextList,
        spiffe_uri_pattern -> Text,
        allow_short_lived -> Bool,
        must_staple -> Bool,
        required_csr_attributes -> TextList,
        acme_auth_mode -> Text,
        requires_approval -> Bool,
        enabled -> Bool,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    renewal_policies (id) {
        id -> Text,
        name -> Text,
        renewal_window_days -> Integer,
        auto_renew -> Bool,
        max_retries -> Integer,
        retry_interval_seconds -> Integer,
        alert_thresholds_days -> JsonDoc,
        alert_channels -> JsonDoc,
        alert_severity_map -> JsonDoc,
        certificate_profile_id -> Nullable<Text>,
        agent_group_id -> Nullable<Text>,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    policy_rules (id) {
        id -> Text,
        name -> Text,
        #[sql_name = "type"]
        kind -> Text,
        config -> JsonDoc,
        enabled -> Bool,
        severity -> Text,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    issuers (id) {
        id -> Text,
        name -> Text,
        #[sql_name = "type"]
        kind -> Text,
        config -> JsonDoc,
        encrypted_config -> Nullable<Binary>,
        enabled -> Bool,
        last_tested_at -> Nullable<UtcTimestamp>,
        test_status -> Text,
        source -> Text,
        hierarchy_mode -> Text,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    local_authorities (issuer_id) {
        issuer_id -> Text,
        certificate_pem -> Text,
        private_key -> Binary,
        created_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    agents (id) {
        id -> Text,
        name -> Text,
        hostname -> Text,
        status -> Text,
        last_heartbeat_at -> Nullable<UtcTimestamp>,
        registered_at -> UtcTimestamp,
        api_key_hash -> Text,
        os -> Text,
        architecture -> Text,
        ip_address -> Text,
        version -> Text,
        retired_at -> Nullable<UtcTimestamp>,
        retired_reason -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    agent_groups (id) {
        id -> Text,
        name -> Text,
        description -> Text,
        match_os -> Text,
        match_architecture -> Text,
        match_ip_cidr -> Text,
        match_version -> Text,
        enabled -> Bool,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    agent_group_members (agent_group_id, agent_id) {
        agent_group_id -> Text,
        agent_id -> Text,
        membership_type -> Text,
        created_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    deployment_targets (id) {
        id -> Text,
        name -> Text,
        #[sql_name = "type"]
        kind -> Text,
        agent_id -> Text,
        config -> JsonDoc,
        encrypted_config -> Nullable<Binary>,
        enabled -> Bool,
        last_tested_at -> Nullable<UtcTimestamp>,
        test_status -> Text,
        source -> Text,
        retired_at -> Nullable<UtcTimestamp>,
        retired_reason -> Nullable<Text>,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    managed_certificates (id) {
        id -> Text,
        name -> Text,
        common_name -> Text,
        sans -> TextList,
        environment -> Text,
        owner_id -> Text,
        team_id -> Text,
        issuer_id -> Text,
        renewal_policy_id -> Text,
        certificate_profile_id -> Nullable<Text>,
        status -> Text,
        expires_at -> Nullable<UtcTimestamp>,
        renew_at -> Nullable<UtcTimestamp>,
        tags -> JsonDoc,
        last_renewal_at -> Nullable<UtcTimestamp>,
        last_deployment_at -> Nullable<UtcTimestamp>,
        revoked_at -> Nullable<UtcTimestamp>,
        revocation_reason -> Nullable<Text>,
        source -> Text,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    certificate_target_mappings (certificate_id, target_id) {
        certificate_id -> Text,
        target_id -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    certificate_versions (id) {
        id -> Text,
        certificate_id -> Text,
        issuer_id -> Nullable<Text>,
        serial_number -> Text,
        not_before -> UtcTimestamp,
        not_after -> UtcTimestamp,
        fingerprint_sha256 -> Text,
        pem_chain -> Text,
        csr_pem -> Text,
        encrypted_private_key -> Nullable<Binary>,
        key_algorithm -> Text,
        key_size -> Integer,
        created_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    certificate_revocations (id) {
        id -> Text,
        certificate_id -> Text,
        issuer_id -> Text,
        serial_number -> Text,
        reason -> Text,
        revoked_by -> Text,
        revoked_at -> UtcTimestamp,
        issuer_notified -> Bool,
        created_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    policy_violations (id) {
        id -> Text,
        certificate_id -> Text,
        rule_id -> Text,
        message -> Text,
        severity -> Text,
        created_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    jobs (id) {
        id -> Text,
        #[sql_name = "type"]
        kind -> Text,
        certificate_id -> Nullable<Text>,
        target_id -> Nullable<Text>,
        agent_id -> Nullable<Text>,
        status -> Text,
        attempts -> Integer,
        max_attempts -> Integer,
        last_error -> Nullable<Text>,
        deployment_result -> Nullable<JsonDoc>,
        scheduled_at -> UtcTimestamp,
        started_at -> Nullable<UtcTimestamp>,
        completed_at -> Nullable<UtcTimestamp>,
        created_at -> UtcTimestamp,
        status_changed_at -> UtcTimestamp,
        next_attempt_at -> Nullable<UtcTimestamp>,
        lease_owner -> Nullable<Text>,
        lease_token -> BigInt,
        lease_expires_at -> Nullable<UtcTimestamp>,
        verification_status -> Text,
        verified_at -> Nullable<UtcTimestamp>,
        expected_fingerprint -> Nullable<Text>,
        verification_fingerprint -> Nullable<Text>,
        verification_error -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    issuance_intents (job_id) {
        job_id -> Text,
        issuer_id -> Text,
        serial_number -> Text,
        not_before -> UtcTimestamp,
        spki -> Binary,
        request -> JsonDoc,
        csr_pem -> Text,
        encrypted_private_key -> Nullable<Binary>,
        created_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    issuance_approval_requests (id) {
        id -> Text,
        approval_kind -> Text,
        certificate_id -> Nullable<Text>,
        job_id -> Nullable<Text>,
        profile_id -> Text,
        requested_by -> Text,
        state -> Text,
        decided_by -> Nullable<Text>,
        decided_at -> Nullable<UtcTimestamp>,
        decision_note -> Nullable<Text>,
        metadata -> Nullable<JsonDoc>,
        payload -> Nullable<JsonDoc>,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    scheduler_leases (loop_name) {
        #[sql_name = "loop"]
        loop_name -> Text,
        holder -> Text,
        epoch -> BigInt,
        acquired_at -> UtcTimestamp,
        expires_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    audit_events (id) {
        id -> Text,
        actor -> Text,
        actor_type -> Text,
        action -> Text,
        resource_type -> Text,
        resource_id -> Text,
        details -> JsonDoc,
        timestamp -> UtcTimestamp,
        event_category -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Text};
    use crate::types::UtcTimestamp;

    schema_migrations (version) {
        version -> Text,
        applied_at -> UtcTimestamp,
        checksum -> Text,
        duration_ms -> BigInt,
        applied_by -> Text,
    }
}

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
    issuance_approval_requests,
    scheduler_leases,
    audit_events,
);
