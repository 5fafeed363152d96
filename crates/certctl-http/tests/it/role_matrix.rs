//! Every route against every role: through the real router, the real use cases and real grants, compared with what follows from the
//! table of routes and the catalogue of roles. A route that is added is tried without being named here.

use axum::body::Body;
use certctl_domain::access::{Permission, Scope, SeededRole};
use certctl_http::{Access, RouteInfo, matrix};
use certctl_testkit::{TestDb, db_tests};

use crate::{
    matrix::{filled, least},
    nouns::NounApi,
    support::{Answer, request},
};

/// What paths have where an id belongs.
const ID: &str = "no-such-id";

/// Routes whose access depends on more than who asks; the use case refuses who lacks this.
const BY_USE_CASE: [(&str, &str, Permission); 1] =
    [("POST", "/api/v1/agents", Permission::AgentEdit)];

/// Somebody who calls.
struct Subject {
    label: String,
    /// None is nobody; an empty role is a key without grants.
    key: Option<String>,
    role: Option<SeededRole>,
    scope: Scope,
}

/// Nobody, a key that holds nothing, and each role: for everything, for the issuer and the profile of the paths, and for others.
async fn subjects(db: &TestDb) -> Vec<Subject> {
    let scopes = [
        Scope::Global,
        Scope::Issuer(ID.into()),
        Scope::Issuer("another-id".into()),
        Scope::Profile(ID.into()),
        Scope::Profile("another-id".into()),
    ];
    let mut subjects = vec![Subject {
        label: "nobody".into(),
        key: None,
        role: None,
        scope: Scope::Global,
    }];
    let bare = (None, Scope::Global);
    let roles = SeededRole::ALL
        .iter()
        .flat_map(|role| scopes.iter().map(|scope| (Some(*role), scope.clone())));
    for (number, (role, scope)) in std::iter::once(bare).chain(roles).enumerate() {
        let (name, key) = (
            format!("subject-{number}"),
            format!("key-of-subject-{number}"),
        );
        let hash = certctl_service::access::key_hash(&key);
        let make = format!(
            "INSERT INTO api_keys (id, name, key_hash, created_by) VALUES ('ak-{number}', '{name}', '{hash}', 'test')"
        );
        db.execute(&make).await.unwrap();
        if let Some(role) = role {
            let id = scope.id().map_or("NULL".to_owned(), |id| format!("'{id}'"));
            let grant = format!(
                "INSERT INTO actor_roles (id, actor_id, actor_type, role_id, scope_type, scope_id) \
                 VALUES ('ar-{number}', '{name}', 'APIKey', '{}', '{}', {id})",
                role.id(),
                scope.kind(),
            );
            db.execute(&grant).await.unwrap();
        }
        let role_name = role.map_or("no role", SeededRole::as_str);
        subjects.push(Subject {
            label: format!("{role_name} for {scope}"),
            key: Some(key),
            role,
            scope,
        });
    }
    subjects
}

/// What must become of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// 401.
    Unknown,
    /// 403.
    Refused,
    /// Whatever the use case says.
    Admitted,
}

/// The table and the catalogue, put together.
fn expected(route: &RouteInfo, subject: &Subject) -> Verdict {
    let by_use_case = BY_USE_CASE
        .iter()
        .find(|(method, path, _)| route.method == *method && route.path == *path)
        .map(|(.., permission)| *permission);
    let needed = route.access.permission().or(by_use_case);
    if subject.key.is_none() {
        return match route.access {
            Access::Public => Verdict::Admitted,
            _ => Verdict::Unknown,
        };
    }
    let Some(permission) = needed else {
        return Verdict::Admitted;
    };
    let reaches = match route.access {
        Access::PermissionAtIssuer(_) => subject.scope == Scope::Issuer(ID.into()),
        Access::PermissionAtProfile(_) => subject.scope == Scope::Profile(ID.into()),
        _ => false,
    };
    let holds = subject.role.is_some_and(|role| role.holds(permission));
    if holds && (reaches || subject.scope == Scope::Global) {
        Verdict::Admitted
    } else {
        Verdict::Refused
    }
}

fn seen(answer: &Answer) -> Verdict {
    // A use case has other reasons to refuse, and says them.
    match answer.status {
        401 => Verdict::Unknown,
        403 if answer.json()["error"] == "Insufficient permissions" => Verdict::Refused,
        _ => Verdict::Admitted,
    }
}

db_tests! {
    async fn every_route_admits_the_roles_that_the_table_says_and_no_other(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        let subjects = subjects(&api.db).await;
        let routes = matrix();
        let (mut pairs, mut wrong) = (0, Vec::new());
        let mut counts = [0; 3];
        for route in &routes {
            let (path, body) = (filled(route.path), least(route.path).to_string());
            for subject in &subjects {
                let key = subject.key.as_deref().unwrap_or("");
                let call = request(route.method.as_str(), &path, key).body(Body::from(body.clone()));
                let answer = api.send(call.unwrap()).await;
                let (expected, seen) = (expected(route, subject), seen(&answer));
                // A token that is wrong is the business of the use case.
                let is_token = route.access == Access::Public && answer.status == 401;
                if seen != expected && !is_token {
                    wrong.push(format!("{} {path} as {}: {seen:?}, and not {expected:?}: {answer:?}", route.method, subject.label));
                }
                counts[expected as usize] += 1;
                pairs += 1;
            }
        }
        let count = wrong.len();
        wrong.truncate(20);
        assert!(wrong.is_empty(), "{count} of {pairs} pairs are not as the table says, such as:\n{}", wrong.join("\n"));
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
        println!("{} routes × {} callers: {pairs} pairs as the table says ({counts:?} unknown, refused, admitted)", routes.len(), subjects.len());
    }
}
