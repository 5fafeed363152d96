//! Who may do what.

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
        previous_key_hash -> Nullable<Text>,
        previous_valid_until -> Nullable<UtcTimestamp>,
        tenant_id -> Text,
        admin -> Bool,
        created_by -> Text,
        created_at -> UtcTimestamp,
        expires_at -> Nullable<UtcTimestamp>,
        last_used_at -> Nullable<UtcTimestamp>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Text};

    access_version (id) {
        id -> Text,
        version -> BigInt,
    }
}
