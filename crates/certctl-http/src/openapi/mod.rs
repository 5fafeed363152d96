//! The OpenAPI 3.1 document, read from the table of routes.

mod examples;
mod operation;
mod reference;

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    problem::{ErrorBody, GateErrorBody},
    routes::{self, Route},
};

pub use reference::api_reference;

/// Describes all routes of certctl. Keys are sorted, so that the text is the same for every build.
#[must_use]
pub fn openapi_document() -> Value {
    document(&routes::all())
}

fn document(routes: &[Route]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for Route { info, .. } in routes {
        let operation = operation::describe(info, &mut schemas);
        let path = paths.entry(info.path).or_insert_with(|| json!({}));
        path[info.method.as_str().to_ascii_lowercase()] = operation;
    }
    let responses = shared_responses(&mut schemas.answers);
    sorted(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "certctl",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The control plane for the whole life of TLS certificates.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions(),
            "responses": responses,
            "parameters": operation::shared_parameters(),
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer", "description": "An API key." } },
        },
    }))
}

/// The schemas that operations refer to by name. What is sent and what is answered are described apart, since a field with a
/// default may be left out of a request and is always in an answer, and one that is skipped when empty is the other way round.
struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        // OpenAPI 3.1 takes JSON Schema 2020-12 as it is (OAS 3.1.0 §4.8.24).
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self {
            requests: settings.clone().for_deserialize().into_generator(),
            answers: settings.for_serialize().into_generator(),
        }
    }

    /// All that was named. A name means one schema: a type that is both sent and answered, and differs, is a fault that the
    /// tests of this module find.
    fn definitions(mut self) -> Map<String, Value> {
        let mut all = self.requests.take_definitions(true);
        for (name, schema) in self.answers.take_definitions(true) {
            debug_assert!(
                all.get(&name).is_none_or(|sent| *sent == schema),
                "{name} is not the same in requests and in answers"
            );
            all.insert(name, schema);
        }
        all
    }
}

/// The refusals that many routes share, by the name under which [`operation::describe`] refers to them.
fn shared_responses(generator: &mut SchemaGenerator) -> Value {
    let main = generator.subschema_for::<ErrorBody>();
    let gate = generator.subschema_for::<GateErrorBody>();
    let again =
        json!({ "Retry-After": { "description": "Seconds.", "schema": { "type": "integer" } } });
    let refusals = operation::REFUSALS.iter().map(|refusal| {
        let schema = if refusal.is_gate { &gate } else { &main };
        let example = refusal.example();
        let mut response = json!({
            "description": refusal.description,
            "content": { "application/json": { "schema": schema, "example": example } },
        });
        if refusal.is_retryable {
            response["headers"] = again.clone();
        }
        (refusal.name.to_owned(), response)
    });
    Value::Object(refusals.collect())
}

/// Sorts the keys of all objects. `serde_json` does so by itself until some crate of a build turns `preserve_order` on.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, sorted(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
