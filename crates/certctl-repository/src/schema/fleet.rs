//! People, CAs, hosts and places.

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
