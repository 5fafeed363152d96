//! The description of the API.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::Path,
};

use certctl_http::{matrix, openapi_document};
use serde_json::Value;

use crate::support::TestApi;

#[test]
fn the_committed_document_is_the_one_the_code_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/openapi.json");
    let text = fs::read_to_string(&path).expect("openapi.json is in the repository");
    let committed: Value = serde_json::from_str(&text).expect("openapi.json is JSON");
    assert!(
        committed == openapi_document(),
        "openapi.json is out of date; run `cargo xtask openapi`"
    );
}

/// The routes as the contract has them, which nobody derives from the code.
#[test]
fn the_document_has_the_routes_of_the_contract_and_no_other() {
    let document = openapi_document();
    let served: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let path = path
                .split('/')
                .map(|part| if part.starts_with('{') { "{}" } else { part });
            let path = path.collect::<Vec<_>>().join("/");
            let methods = methods.as_object().unwrap().keys();
            methods
                .map(move |method| format!("{} {path}", method.to_uppercase()))
                .collect::<Vec<_>>()
        })
        .collect();
    let wanted: BTreeSet<String> = include_str!("contract_routes.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = wanted.difference(&served).collect();
    let undeclared: Vec<_> = served.difference(&wanted).collect();
    assert!(
        missing.is_empty() && undeclared.is_empty(),
        "missing: {missing:#?}\nundeclared: {undeclared:#?}"
    );
    eprintln!("{} routes", served.len());
}

#[test]
fn the_reference_page_is_the_one_the_code_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/api.md");
    let text = fs::read_to_string(&path).expect("the page is in the repository");
    assert!(
        text.trim_end() == certctl_http::api_reference().trim_end(),
        "api.md is out of date; run `cargo xtask openapi`"
    );
}

#[test]
fn every_route_is_one_operation_with_its_own_name() {
    let document = openapi_document();
    let mut names = HashSet::new();
    for route in matrix() {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        assert_eq!(
            operation["operationId"], route.operation_id,
            "{} {}",
            route.method, route.path
        );
        assert!(
            names.insert(route.operation_id),
            "{} names two routes",
            route.operation_id
        );
        let is_open = operation["security"].as_array().unwrap().is_empty();
        assert_eq!(
            is_open,
            !route.access.needs_identity() && route.access != certctl_http::Access::Optional
        );
        assert_eq!(
            operation["x-permission"].as_str(),
            route
                .access
                .permission()
                .map(certctl_domain::access::Permission::as_str)
        );
    }
    let described: usize = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|path| path.as_object().unwrap().len())
        .sum();
    assert_eq!(described, names.len());
}

#[test]
fn every_reference_leads_somewhere_and_every_path_parameter_is_described() {
    let document = openapi_document();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    assert!(references.contains("#/components/responses/Unauthorized"));
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("only local references");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let declared = operation["parameters"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let declared = declared
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .count();
            assert_eq!(declared, path.matches('{').count(), "{method} {path}");
        }
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                references.insert(reference.clone());
            }
            map.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[test]
fn the_document_is_the_same_whenever_it_is_made() {
    assert_eq!(
        openapi_document().to_string(),
        openapi_document().to_string()
    );
}

#[tokio::test]
async fn the_document_is_served_to_anyone() {
    let answer = TestApi::new().get("/api/v1/openapi.json", "").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/json"))
    );
    assert_eq!(answer.json(), openapi_document());
    assert_eq!(answer.json()["openapi"], "3.1.0");
}
