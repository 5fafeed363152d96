//! What verifiers are told.

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    revocation_status (issuer_id) {
        issuer_id -> Text,
        version -> BigInt,
        listed_version -> BigInt,
        crl_number -> BigInt,
        generating_until -> Nullable<UtcTimestamp>,
        shard_counts -> JsonDoc,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    crl_cache (issuer_id, shard) {
        issuer_id -> Text,
        shard -> Text,
        crl_der -> Binary,
        crl_number -> BigInt,
        this_update -> UtcTimestamp,
        next_update -> UtcTimestamp,
        generated_at -> UtcTimestamp,
        generation_duration_ms -> BigInt,
        revoked_count -> BigInt,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    crl_generation_events (issuer_id, crl_number) {
        issuer_id -> Text,
        crl_number -> BigInt,
        started_at -> UtcTimestamp,
        duration_ms -> BigInt,
        revoked_count -> BigInt,
        succeeded -> Bool,
        error -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    ocsp_responders (issuer_id) {
        issuer_id -> Text,
        cert_pem -> Text,
        cert_serial -> Text,
        key_path -> Nullable<Text>,
        encrypted_key -> Nullable<Binary>,
        key_alg -> Text,
        not_before -> UtcTimestamp,
        not_after -> UtcTimestamp,
        rotated_from -> Nullable<Text>,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}
