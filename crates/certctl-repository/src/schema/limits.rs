//! Limits that replicas share.

diesel::table! {
    use diesel::sql_types::Text;
    use crate::types::{JsonDoc, UtcTimestamp};

    rate_limit_buckets (bucket_key) {
        bucket_key -> Text,
        site -> Text,
        slices -> JsonDoc,
        updated_at -> UtcTimestamp,
        expires_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Text};
    use crate::types::UtcTimestamp;

    rate_limit_tokens (bucket_key) {
        bucket_key -> Text,
        tokens -> BigInt,
        burst -> BigInt,
        per_second -> BigInt,
        updated_at -> UtcTimestamp,
    }
}
