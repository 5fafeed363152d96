//! What happened.

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
    use diesel::sql_types::Text;
    use crate::types::UtcTimestamp;

    audit_unsealed (timestamp, event_id) {
        timestamp -> UtcTimestamp,
        event_id -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::{Binary, Nullable, Text};
    use crate::types::UtcTimestamp;

    audit_keys (key_id) {
        key_id -> Text,
        public_key -> Binary,
        private_key -> Nullable<Binary>,
        created_at -> UtcTimestamp,
        retired_at -> Nullable<UtcTimestamp>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Text};
    use crate::types::UtcTimestamp;

    audit_batches (batch) {
        batch -> BigInt,
        first_seq -> BigInt,
        row_count -> BigInt,
        root -> Binary,
        previous -> Binary,
        sealed_at -> UtcTimestamp,
        key_id -> Text,
        signature -> Binary,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Text};

    audit_positions (seq) {
        seq -> BigInt,
        event_id -> Text,
        batch -> BigInt,
        leaf -> Binary,
    }
}

diesel::table! {
    use diesel::sql_types::{Binary, Text};
    use crate::types::UtcTimestamp;

    audit_marks (name) {
        name -> Text,
        document -> Text,
        signature -> Binary,
        updated_at -> UtcTimestamp,
    }
}
