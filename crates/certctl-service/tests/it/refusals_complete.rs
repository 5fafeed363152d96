//! Nobody forgets a use case: the source says which take an actor, and the list of refusals must call each.

use std::{collections::BTreeSet, fs, path::Path};

/// Use cases that take an actor and that anybody may carry out, each with the reason.
const OPEN: [(&str, &str); 0] = [];

#[test]
fn every_use_case_that_takes_an_actor_is_among_the_refusals() {
    let mut declared = BTreeSet::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    collect(&source, &mut declared);
    // If the source were read wrongly, nothing would be missing.
    for known in ["list_teams", "register_agent", "rotate_key", "poll_work"] {
        assert!(declared.contains(known), "{known} was not found");
    }
    assert!(declared.len() > 70, "{declared:?}");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let refused = ["refusals.rs", "refusals_fleet.rs", "acme/accounts.rs"]
        .map(|name| fs::read_to_string(tests.join(name)).unwrap())
        .concat();
    let is_refused = |name: &str| refused.contains(&format!("outcome(s.{name}("));
    let is_open = |name: &str| OPEN.iter().any(|(open, _)| *open == name);
    let missing: Vec<_> = declared
        .iter()
        .filter(|name| !is_refused(name) && !is_open(name))
        .collect();
    assert!(
        missing.is_empty(),
        "these take an actor and are in no list of refusals, which call each as nobody: {missing:?}"
    );
    for (open, _) in OPEN {
        assert!(
            declared.contains(open) && !is_refused(open),
            "{open} is no exception"
        );
    }
    println!(
        "{} use cases refuse an actor without grants",
        declared.len() - OPEN.len()
    );
}

/// The public methods of a folder whose parameters name an actor, or a registrar, which may be one.
fn collect(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|end| end == "rs") {
            names.extend(of(&fs::read_to_string(&path).unwrap()));
        }
    }
}

fn of(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (start, _) in source.match_indices("pub ") {
        let rest = &source[start + "pub ".len()..];
        let rest = rest.strip_prefix("async ").unwrap_or(rest);
        let Some(rest) = rest.strip_prefix("fn ") else {
            continue;
        };
        let name = rest.split(['(', '<']).next().unwrap().to_owned();
        // The parameters end where the answer or the body begins.
        let parameters = rest.split([';', '{']).next().unwrap();
        let parameters = parameters.split("->").next().unwrap();
        let is_use_case = parameters.contains("&self")
            && (parameters.contains("Actor") || parameters.contains("Registrar"))
            // An actor's type or id is not somebody who asks.
            && parameters.split(',').any(|one| {
                let kind = one.rsplit(':').next().unwrap().trim().trim_end_matches(')').trim();
                ["&Actor", "Actor", "Option<&Actor>", "&Option<Actor>", "&Registrar"].contains(&kind)
            });
        if is_use_case {
            names.push(name);
        }
    }
    names
}

#[test]
fn methods_are_told_from_what_only_looks_like_them() {
    let source = "
        pub async fn one(&self, actor: &Actor) -> Result<(), Error> {
        pub async fn two(
            &self,
            actor: &Actor,
            id: &str,
        ) -> Result<Actor, Error> {
        pub fn three(&self, registrar: &Registrar, input: AgentInput) {
        pub fn not_a_method(actor: &Actor) {
        pub fn of_a_kind(&self, kind: ActorType) -> Actor {
        pub(crate) fn inner(&self, actor: &Actor) {
        fn private(&self, actor: &Actor) {
    ";
    assert_eq!(of(source), ["one", "two", "three"]);
}
