//! Certificates, and the rules they follow.

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
        acme_issuer_id -> Nullable<Text>,
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
        listed_until -> Nullable<UtcTimestamp>,
        short_lived -> Nullable<Bool>,
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
        resolved_at -> Nullable<UtcTimestamp>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    row_totals (noun, shard) {
        noun -> Text,
        shard -> Integer,
        held -> BigInt,
    }
}
