//! The ACME server.

diesel::table! {
    use diesel::sql_types::{Bool, Nullable, Text};
    use crate::types::{TextList, UtcTimestamp};

    acme_accounts (id) {
        id -> Text,
        jwk_thumbprint -> Text,
        jwk_pem -> Text,
        contact -> TextList,
        status -> Text,
        profile_id -> Text,
        owner_id -> Nullable<Text>,
        terms_agreed -> Bool,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{Nullable, Text};
    use crate::types::{JsonDoc, UtcTimestamp};

    acme_orders (id) {
        id -> Text,
        account_id -> Text,
        profile_id -> Text,
        issuer_id -> Text,
        auth_mode -> Text,
        identifiers -> JsonDoc,
        status -> Text,
        expires_at -> UtcTimestamp,
        not_before -> Nullable<UtcTimestamp>,
        not_after -> Nullable<UtcTimestamp>,
        error -> Nullable<JsonDoc>,
        csr_pem -> Nullable<Text>,
        certificate_id -> Nullable<Text>,
        job_id -> Nullable<Text>,
        replaces -> Nullable<Text>,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
        kept_until -> Nullable<UtcTimestamp>,
    }
}

diesel::table! {
    use diesel::sql_types::{Bool, Nullable, Text};
    use crate::types::UtcTimestamp;

    acme_authorizations (id) {
        id -> Text,
        order_id -> Text,
        account_id -> Text,
        identifier_type -> Text,
        identifier_value -> Text,
        wildcard -> Bool,
        status -> Text,
        expires_at -> UtcTimestamp,
        proved_by -> Nullable<Text>,
        proved_at -> Nullable<UtcTimestamp>,
        created_at -> UtcTimestamp,
        updated_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Nullable, Text};
    use crate::types::{JsonDoc, UtcTimestamp};

    acme_challenges (id) {
        id -> Text,
        authz_id -> Text,
        #[sql_name = "type"]
        kind -> Text,
        status -> Text,
        token -> Text,
        validated_at -> Nullable<UtcTimestamp>,
        error -> Nullable<JsonDoc>,
        lease_token -> BigInt,
        lease_expires_at -> Nullable<UtcTimestamp>,
        created_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::Text;
    use crate::types::UtcTimestamp;

    acme_redeemed_nonces (nonce) {
        nonce -> Text,
        expires_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{Binary, Nullable, Text};
    use crate::types::UtcTimestamp;

    acme_eab_keys (id) {
        id -> Text,
        hmac_ciphertext -> Binary,
        profile_id -> Text,
        bound_account_id -> Nullable<Text>,
        created_at -> UtcTimestamp,
        revoked_at -> Nullable<UtcTimestamp>,
    }
}

diesel::table! {
    use diesel::sql_types::{Integer, Nullable, Text};
    use crate::types::UtcTimestamp;

    acme_failing_names (account_id, identifier_type, identifier_value) {
        account_id -> Text,
        identifier_type -> Text,
        identifier_value -> Text,
        failures -> Integer,
        last_failed_at -> UtcTimestamp,
        paused_at -> Nullable<UtcTimestamp>,
    }
}
