//! Work that waits, and who does it.

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

    notification_events (id) {
        id -> Text,
        #[sql_name = "type"]
        kind -> Text,
        certificate_id -> Nullable<Text>,
        channel -> Text,
        recipient -> Text,
        message -> Text,
        sent_at -> Nullable<UtcTimestamp>,
        status -> Text,
        error -> Nullable<Text>,
        retry_count -> Integer,
        next_retry_at -> Nullable<UtcTimestamp>,
        last_error -> Nullable<Text>,
        dedupe_key -> Nullable<Text>,
        created_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    csr_refusals (job_id, agent_id) {
        job_id -> Text,
        agent_id -> Text,
        created_at -> UtcTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
    use crate::types::{JsonDoc, TextList, UtcTimestamp};

    counters (name, slot) {
        name -> Text,
        slot -> Integer,
        value -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::{Nullable, Text};

    policy_review (id) {
        id -> Text,
        asked_to -> Nullable<Text>,
    }
}
