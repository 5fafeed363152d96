//! Policy rules, and what violates them.

use std::time::Duration;

use certctl_domain::{
    access::{ActorType, SeededRole},
    certificate::CertificateStatus,
    id::PolicyRuleId,
    page::PageRequest,
};
use certctl_repository::Backend;
use certctl_service::{
    certificates::CertificateInput,
    policies::{PolicyRuleInput, Review},
};
use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{World, actor_of, enter, outcome};

const DAY: Duration = Duration::from_secs(86_400);

fn rule(id: &str, kind: &str, config: Value) -> PolicyRuleInput {
    PolicyRuleInput {
        id: Some(id.to_owned()),
        name: format!("name-{id}"),
        rule_type: kind.to_owned(),
        config,
        enabled: None,
        severity: None,
    }
}

fn id(text: &str) -> PolicyRuleId {
    PolicyRuleId::from_stored(text.to_owned())
}

/// The numbers from 1 on, as `n`.
fn numbers(world: &World, last: u32) -> String {
    match world.db.backend() {
        Backend::Postgres => format!("generate_series(1, {last}) AS s(n)"),
        Backend::Sqlite => format!(
            "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {last}) SELECT n FROM s)"
        ),
    }
}

impl World {
    /// Certificate, rule, severity and whether it stands, of everything on record.
    async fn violations(&self) -> Vec<String> {
        self.db
            .texts(
                "SELECT certificate_id || ' ' || rule_id || ' ' || severity || CASE WHEN resolved_at IS NULL THEN '' ELSE ' resolved' END AS value \
                 FROM policy_violations ORDER BY 1",
            )
            .await
    }

    async fn change(&self, input: CertificateInput) {
        self.services
            .update_certificate(&self.admin, &self.ids.certificate, input)
            .await
            .unwrap();
    }
}

fn environment(name: &str) -> CertificateInput {
    CertificateInput {
        environment: Some(name.to_owned()),
        ..CertificateInput::default()
    }
}

db_tests! {
    async fn rules_are_made_changed_and_removed(db: TestDb) {
        let world = World::new(db).await;
        let (services, admin) = (&world.services, &world.admin);
        let seeded = services.list_policies(admin, PageRequest::default()).await.unwrap();
        assert_eq!(seeded.total, 4, "the default rules are there");
        let made = services.create_policy(admin, rule("rule-1", "allowedenvironments", json!({"allowed": ["lab"]}))).await.unwrap();
        assert_eq!((made.rule_type.as_str(), made.severity.as_str(), made.enabled), ("AllowedEnvironments", "Warning", true));
        assert_eq!(services.get_policy(admin, &made.id).await.unwrap(), made);
        for (input, expected) in [
            (rule("rule-1", "AllowedIssuers", json!({"allowed_issuer_ids": ["x"]})), "conflict"),
            (rule("rule-2", "Nothing", json!({})), "invalid type"),
            (rule("rule-2", "AllowedIssuers", json!({})), "invalid config"),
            (rule("rule-2", "RenewalLeadTime", json!({"x\0": 1})), "invalid config"),
            (PolicyRuleInput { severity: Some("Fatal".into()), ..rule("rule-2", "RenewalLeadTime", json!({})) }, "invalid severity"),
            (PolicyRuleInput { name: String::new(), ..rule("rule-2", "RenewalLeadTime", json!({})) }, "invalid name"),
            (rule("..", "RenewalLeadTime", json!({})), "invalid id"),
        ] {
            assert_eq!(outcome(services.create_policy(admin, input.clone()).await), expected, "{input:?}");
        }
        let critical = PolicyRuleInput { severity: Some("critical".into()), enabled: Some(false), ..rule("", "CertificateLifetime", json!({"max_days": 47})) };
        services.update_policy(admin, &made.id, critical).await.unwrap();
        let blank = PolicyRuleInput { severity: Some(String::new()), ..rule("", "CertificateLifetime", json!({"max_days": 90})) };
        let kept = services.update_policy(admin, &made.id, blank).await.unwrap();
        assert_eq!((kept.severity.as_str(), kept.enabled, kept.created_at), ("Critical", true, made.created_at), "blank keeps the old one");
        assert_eq!(outcome(services.update_policy(admin, &id("none"), rule("", "RenewalLeadTime", json!({}))).await), "no policy");
        services.delete_policy(admin, &made.id).await.unwrap();
        assert_eq!(outcome(services.delete_policy(admin, &made.id).await), "no policy");
        assert_eq!(outcome(services.list_violations(admin, &made.id, PageRequest::default()).await), "no policy");
        for action in ["policy_rule_created", "policy_rule_updated", "policy_rule_deleted"] {
            assert!(world.recorded(action).await > 0, "{action}");
        }
        let viewer = actor_of("bob", ActorType::ApiKey, SeededRole::Viewer);
        assert_eq!(outcome(services.create_policy(&viewer, rule("rule-9", "RenewalLeadTime", json!({}))).await), "needs policy.edit");
        assert_eq!(outcome(services.delete_policy(&viewer, &id("pr-require-owner")).await), "needs policy.delete");
    }

    async fn a_violation_is_on_record_once_while_it_stands_and_stays_with_its_end(db: TestDb) {
        let world = World::new(db).await;
        world.change(environment("lab")).await;
        assert_eq!(world.violations().await, ["mc-web pr-allowed-environments Error"]);
        world.change(environment("lab")).await;
        assert_eq!((world.violations().await.len(), world.recorded("policy_violation_detected").await), (1, 1), "the same one is not repeated");
        world.change(environment("production")).await;
        assert_eq!(world.violations().await, ["mc-web pr-allowed-environments Error resolved"]);
        world.change(environment("lab")).await;
        assert_eq!(world.violations().await, ["mc-web pr-allowed-environments Error", "mc-web pr-allowed-environments Error resolved"]);
        let listed = world.services.list_violations(&world.admin, &id("pr-allowed-environments"), PageRequest::default()).await.unwrap();
        assert_eq!(listed.total, 2);
        assert_eq!(listed.rows[0].message, "environment \"lab\" is not allowed");
    }

    async fn rules_are_asked_at_creation_renewal_and_issue_and_hinder_nothing(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let (services, admin) = (&world.services, &world.admin);
        services.create_policy(admin, PolicyRuleInput { severity: Some("Critical".into()), ..rule("rule-life", "CertificateLifetime", json!({"max_days": 30})) }).await.unwrap();
        services.create_policy(admin, rule("rule-tag", "RequiredMetadata", json!({"required_keys": ["cost-center"]}))).await.unwrap();
        let input = CertificateInput {
            id: Some("mc-new".into()), name: Some("new".into()), common_name: Some("new.example.test".into()), environment: Some("production".into()),
            owner_id: Some("o-alice".into()), team_id: Some("t-platform".into()), issuer_id: Some("iss-local".into()),
            renewal_policy_id: Some("rp-standard".into()), ..CertificateInput::default()
        };
        services.create_certificate(admin, input).await.unwrap();
        assert_eq!(world.violations().await, ["mc-new rule-tag Warning"], "how long it will live is not known");
        world.renew(&world.ids.certificate).await;
        assert_eq!(world.violations().await, ["mc-new rule-tag Warning", "mc-web rule-life Critical", "mc-web rule-tag Warning"], "its profile allows 90 days");
        world.profile(|one| one.max_ttl_seconds = 20 * 86_400).await;
        assert_eq!(world.work().await.completed, 1, "nothing is hindered");
        assert_eq!(world.status().await, "Active");
        assert_eq!(world.violations().await, ["mc-new rule-tag Warning", "mc-web rule-life Critical resolved", "mc-web rule-tag Warning"], "what is issued counts");
    }

    async fn the_scan_asks_for_all_that_is_due_at_once_and_repeats_nothing(db: TestDb) {
        let world = World::new(db).await;
        for number in 0..30 {
            let mut due = world.ids.certificate(&format!("mc-{number:02}"));
            due.status = CertificateStatus::Active;
            due.environment = if number % 3 == 0 { "lab" } else { "staging" }.into();
            due.expires_at = Some(world.now() + 20 * DAY);
            due.renew_at = Some(world.now());
            world.enter(&due).await;
        }
        assert_eq!(world.services.scan_renewals().await.unwrap().enqueued, 30);
        assert_eq!(world.violations().await.len(), 10);
        assert_eq!(world.recorded("policy_violation_detected").await, 10);
        world.services.scan_renewals().await.unwrap();
        assert_eq!(world.violations().await.len(), 10);
    }

    async fn a_rule_that_cannot_be_read_stops_no_other(db: TestDb) {
        let world = World::new(db).await;
        world.db.execute("UPDATE policy_rules SET config = '{\"required_keys\": 7}' WHERE id = 'pr-require-owner'").await.unwrap();
        world.change(environment("lab")).await;
        assert_eq!(world.violations().await, ["mc-web pr-allowed-environments Error"]);
        world.db.execute("UPDATE policy_rules SET enabled = false").await.unwrap();
        world.change(environment("lab")).await;
        assert_eq!(world.violations().await, ["mc-web pr-allowed-environments Error resolved"], "a rule that does not count is violated by nothing");
    }

    async fn the_owner_is_told_of_a_violation_once_while_it_stands(db: TestDb) {
        let world = World::new(db).await;
        world.change(environment("lab")).await;
        world.change(environment("lab")).await;
        let told = "SELECT recipient || ' ' || message || ' ' || status AS value FROM notification_events WHERE type = 'PolicyViolation' ORDER BY 1";
        assert_eq!(world.db.texts(told).await, ["o-alice@example.test Certificate name-mc-web violates the policy rule \"allowed-environments\" (Error): \
            environment \"lab\" is not allowed pending"]);
        world.change(environment("production")).await;
        world.change(environment("lab")).await;
        assert_eq!(world.db.texts(told).await.len(), 2, "it was mended and is there again");
        // What is told is told with what it tells of, or neither is there.
        world.change(environment("production")).await;
        world.db.execute("ALTER TABLE notification_events RENAME TO notification_events_away").await.unwrap();
        world.services.update_certificate(&world.admin, &world.ids.certificate, environment("lab")).await.unwrap_err();
        world.db.execute("ALTER TABLE notification_events_away RENAME TO notification_events").await.unwrap();
        assert!(world.violations().await.iter().all(|one| one.ends_with("resolved")));
    }

    async fn a_rule_that_changes_is_asked_of_the_whole_fleet(db: TestDb) {
        let world = World::new(db).await;
        let (services, admin, go) = (&world.services, &world.admin, &CancellationToken::new());
        enter!(world, owners::insert(&certctl_testkit::entities::owner("o-bob", &world.ids.team)));
        // More than a page of one owner, and a few of another.
        world.db.execute(&format!("INSERT INTO managed_certificates (id, name, common_name, environment, owner_id, team_id, issuer_id, renewal_policy_id) \
            SELECT 'mc-' || n, 'name-' || n, 'a.example.test', 'staging', CASE WHEN n <= 3 THEN 'o-bob' ELSE 'o-alice' END, 't-platform', 'iss-local', 'rp-standard' \
            FROM {}", numbers(&world, 1100))).await.unwrap();
        world.db.execute("UPDATE managed_certificates SET status = 'Archived' WHERE id = 'mc-7'").await.unwrap();
        // As many as there are: those of the seed were made by no rule that changed.
        assert_eq!(services.review_policies(go).await.unwrap(), Review::default());
        let made = services.create_policy(admin, rule("rule-env", "AllowedEnvironments", json!({"allowed": ["production"]}))).await.unwrap();
        services.policies_changed().await;
        let stopped = CancellationToken::new();
        stopped.cancel();
        assert_eq!(services.review_policies(&stopped).await.unwrap(), Review::default(), "who is told to stop leaves it to the next");
        let (one, two) = (world.replica("two", certctl_testkit::services::config()).0, services);
        let (left, right) = tokio::join!(one.review_policies(go), two.review_policies(go));
        let (left, right) = (left.unwrap(), right.unwrap());
        assert_eq!((left.asked + right.asked, left.found + right.found), (1100, 1099), "each is asked by one of the two");
        assert_eq!(world.violations().await.len(), 1099);
        assert_eq!(world.recorded("policy_violation_detected").await, 1099);
        let told = "SELECT recipient AS value FROM notification_events WHERE type = 'PolicyViolation' ORDER BY 1";
        assert_eq!(world.db.texts(told).await, ["o-alice@example.test", "o-bob@example.test"], "not a thousand mails");
        assert_eq!(services.review_policies(go).await.unwrap(), Review::default(), "once");
        // Severity is part of what is on record; a rule that fits now ends what violated it.
        let graver = PolicyRuleInput { severity: Some("Critical".into()), ..rule("", "AllowedEnvironments", json!({"allowed": ["production"]})) };
        services.update_policy(admin, &made.id, graver).await.unwrap();
        assert_eq!(services.review_policies(go).await.unwrap(), Review { asked: 1100, found: 1099 });
        let standing = "SELECT DISTINCT severity AS value FROM policy_violations WHERE resolved_at IS NULL";
        assert_eq!(world.db.texts(standing).await, ["Critical"]);
        services.update_policy(admin, &made.id, rule("", "AllowedEnvironments", json!({"allowed": ["production", "staging"]}))).await.unwrap();
        assert_eq!(services.review_policies(go).await.unwrap(), Review { asked: 1100, found: 0 });
        assert!(world.db.texts(standing).await.is_empty());
        // One that is switched off is violated by nothing.
        world.change(environment("lab")).await;
        let off = PolicyRuleInput { enabled: Some(false), ..rule("", "AllowedEnvironments", json!({"allowed": ["production"]})) };
        services.update_policy(admin, &made.id, off).await.unwrap();
        services.review_policies(go).await.unwrap();
        let of_rule = "SELECT id AS value FROM policy_violations WHERE resolved_at IS NULL AND rule_id = 'rule-env'";
        assert!(world.db.texts(of_rule).await.is_empty());
    }
}
