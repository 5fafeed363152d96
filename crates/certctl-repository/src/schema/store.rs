//! The installation itself.

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
