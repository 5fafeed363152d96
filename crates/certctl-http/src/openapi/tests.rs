use axum::Json;
use certctl_domain::{access::Permission, id::IssuerId};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{document, operation::is_described, routes};
use crate::{
    extract::{ApiJson, PathId},
    routes::Route,
};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Gadget {
    /// What it is called.
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Filter {
    /// Only these.
    kind: String,
    after: Option<String>,
    /// Only so many.
    limit: Option<u32>,
    /// Only of this colour.
    #[schemars(extend("enum" = ["red", null]))]
    colour: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Stuck {
    parts: u32,
}

fn described() -> Value {
    document(&[
        Route::get("/api/v1/gadgets", "list_gadgets")
            .permission(Permission::TeamRead)
            .query::<Filter>()
            .etag()
            .lists::<Gadget>()
            .handler(async || StatusCode::OK),
        Route::put("/api/v1/gadgets/{id}", "update_gadget")
            .permission_at_issuer(Permission::IssuerEdit)
            .accepts::<Gadget>()
            .refuses_with::<Stuck>(StatusCode::CONFLICT)
            .returns::<Gadget>()
            .or_media("application/x-pem-file")
            .or_status(StatusCode::NO_CONTENT)
            .handler(
                async |PathId(_): PathId<IssuerId>, ApiJson(gadget): ApiJson<Gadget>| Json(gadget),
            ),
    ])
}

fn statuses(operation: &Value) -> Vec<&str> {
    let responses = operation["responses"]
        .as_object()
        .expect("an operation has responses");
    responses.keys().map(String::as_str).collect()
}

#[test]
fn a_list_has_its_page_its_filters_and_its_envelope() {
    let document = described();
    let list = &document["paths"]["/api/v1/gadgets"]["get"];
    assert_eq!(
        statuses(list),
        ["200", "304", "400", "401", "403", "429", "500", "503"]
    );
    let parameters = list["parameters"].as_array().unwrap();
    assert_eq!(
        parameters[0],
        json!({ "$ref": "#/components/parameters/page" })
    );
    assert_eq!(
        parameters[1],
        json!({ "$ref": "#/components/parameters/per_page" })
    );
    let filters: Vec<_> = parameters[2..]
        .iter()
        .map(|filter| (&filter["name"], &filter["required"]))
        .collect();
    assert_eq!(
        filters,
        [
            (&json!("after"), &json!(false)),
            (&json!("colour"), &json!(false)),
            (&json!("kind"), &json!(true)),
            (&json!("limit"), &json!(false))
        ]
    );
    let schema = &list["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(
        schema,
        &json!({ "$ref": "#/components/schemas/GadgetPage" })
    );
    let page = &document["components"]["schemas"]["GadgetPage"];
    assert_eq!(
        page["required"],
        json!(["data", "total", "page", "per_page"])
    );
    assert_eq!(
        page["properties"]["data"]["items"],
        json!({ "$ref": "#/components/schemas/Gadget" })
    );
    assert_eq!(
        document["components"]["schemas"]["Gadget"]["required"],
        json!(["name"])
    );
}

/// A query has no null, and nobody compares with a NUL.
#[test]
fn a_parameter_is_described_as_a_query_can_hold_it() {
    let document = described();
    let list = &document["paths"]["/api/v1/gadgets"]["get"];
    let schema = |name: &str| {
        let all = list["parameters"].as_array().unwrap();
        let found = all.iter().find(|parameter| parameter["name"] == name);
        let mut schema = found.unwrap()["schema"].clone();
        schema.as_object_mut().unwrap().remove("description");
        schema
    };
    let text = json!({ "type": "string", "pattern": "^[^\\u0000]*$" });
    assert_eq!((schema("kind"), schema("after")), (text.clone(), text));
    assert_eq!(
        schema("colour"),
        json!({ "type": "string", "enum": ["red"] })
    );
    assert_eq!(schema("limit")["type"], "integer");
}

#[test]
fn a_refusal_with_a_body_of_its_own_may_still_have_the_usual_one() {
    let document = described();
    let update = &document["paths"]["/api/v1/gadgets/{id}"]["put"];
    let schema = &update["responses"]["409"]["content"]["application/json"]["schema"];
    let names = ["Stuck", "Error"].map(|name| format!("#/components/schemas/{name}"));
    assert_eq!(
        schema,
        &json!({ "anyOf": [{ "$ref": names[0] }, { "$ref": names[1] }] })
    );
}

#[test]
fn an_update_says_what_it_takes_who_may_and_every_way_it_can_end() {
    let document = described();
    let update = &document["paths"]["/api/v1/gadgets/{id}"]["put"];
    assert_eq!(
        statuses(update),
        [
            "200", "204", "400", "401", "403", "404", "408", "409", "413", "429", "500", "503"
        ]
    );
    assert_eq!(update["tags"], json!(["gadgets"]));
    assert_eq!(update["summary"], "Update gadget");
    assert_eq!(update["x-permission"], "issuer.edit");
    assert_eq!(update["security"], json!([{ "bearer": [] }]));
    assert_eq!(update["requestBody"]["required"], true);
    assert_eq!(update["parameters"][0]["name"], "id");
    let content = update["responses"]["200"]["content"].as_object().unwrap();
    assert_eq!(
        content.keys().collect::<Vec<_>>(),
        ["application/json", "application/x-pem-file"]
    );
}

#[test]
fn every_refusal_that_a_route_declares_is_described() {
    for route in routes::all() {
        for status in &route.info.wire.refusals {
            assert!(
                is_described(*status),
                "{} {status}",
                route.info.operation_id
            );
        }
    }
}

/// An example is a promise: its operation is there, takes JSON, and knows its fields.
#[test]
fn every_body_has_an_example_that_fits() {
    let document = super::openapi_document();
    let mut wanted = std::collections::BTreeSet::new();
    for operation in document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
    {
        let media = &operation["requestBody"]["content"]["application/json"];
        let Some(path) = media["schema"]["$ref"].as_str() else {
            continue;
        };
        let name = operation["operationId"].as_str().unwrap();
        wanted.insert(name);
        let schema = document.pointer(path.trim_start_matches('#')).unwrap();
        let example = media["example"]
            .as_object()
            .unwrap_or_else(|| panic!("{name} has no example"));
        for field in example.keys() {
            assert!(schema["properties"].get(field).is_some(), "{name}: {field}");
        }
        for field in schema["required"].as_array().into_iter().flatten() {
            assert!(
                example.contains_key(field.as_str().unwrap()),
                "{name} lacks {field}"
            );
        }
    }
    let extra: Vec<_> = super::examples::operations()
        .filter(|name| !wanted.contains(name))
        .collect();
    assert!(extra.is_empty(), "examples of no operation: {extra:?}");
}
