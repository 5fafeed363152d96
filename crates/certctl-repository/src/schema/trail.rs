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
