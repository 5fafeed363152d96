//! One operation of the document.

use serde_json::{Map, Value, json};

use super::{Schemas, examples};
use crate::routes::{Access, RateClass, RouteInfo, Wire};

/// A refusal that routes share.
pub(super) struct Refusal {
    status: u16,
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) is_gate: bool,
    pub(super) is_retryable: bool,
}

impl Refusal {
    const fn main(status: u16, name: &'static str, description: &'static str) -> Self {
        Self {
            status,
            name,
            description,
            is_gate: false,
            is_retryable: false,
        }
    }

    const fn gate(status: u16, name: &'static str, description: &'static str) -> Self {
        Self {
            status,
            name,
            description,
            is_gate: true,
            is_retryable: false,
        }
    }

    /// A body with which it comes.
    pub(super) fn example(&self) -> Value {
        let reason = http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or(self.name);
        examples::refusal(self.status, reason, self.description, self.is_gate)
    }

    const fn retryable(mut self) -> Self {
        self.is_retryable = true;
        self
    }
}

pub(super) const REFUSALS: [Refusal; 15] = [
    Refusal::main(
        400,
        "BadRequest",
        "The body, a field or a parameter is not what it must be; the message names it.",
    ),
    Refusal::gate(
        401,
        "Unauthorized",
        "No credential, or one that is not known.",
    ),
    Refusal::gate(403, "Forbidden", "The actor lacks the permission."),
    Refusal::main(404, "NotFound", "There is nothing with this id."),
    Refusal::main(408, "RequestTimeout", "The body took too long to arrive."),
    Refusal::main(
        409,
        "Conflict",
        "Something is in the way: a name that is taken, a state, a row that is referred to.",
    ),
    Refusal::main(
        410,
        "Gone",
        "The agent is retired, or what can be done once was done.",
    ),
    Refusal::main(
        413,
        "ContentTooLarge",
        "The body is larger than the route takes.",
    ),
    Refusal::main(
        415,
        "UnsupportedMediaType",
        "The body is of a type that the route does not take.",
    ),
    Refusal::main(
        422,
        "UnprocessableContent",
        "The content was understood and is not acceptable.",
    ),
    Refusal::gate(429, "TooManyRequests", "The rate limit is exceeded.").retryable(),
    Refusal::main(
        500,
        "InternalServerError",
        "A fault of certctl; the request id leads to its cause in the log.",
    ),
    Refusal::main(501, "NotImplemented", "This is not done for such a thing."),
    Refusal::main(502, "BadGateway", "A third party failed."),
    Refusal::main(
        503,
        "ServiceUnavailable",
        "The database is unavailable, or the request took too long.",
    )
    .retryable(),
];

/// Describes a route, naming the types it uses among the components.
pub(super) fn describe(route: &RouteInfo, schemas: &mut Schemas) -> Value {
    let mut operation = json!({
        "operationId": route.operation_id,
        "summary": route.summary,
        "tags": [route.tag],
        "responses": responses(route, schemas),
        "security": security(route.access),
    });
    if let Some(permission) = route.access.permission() {
        operation["x-permission"] = json!(permission.as_str());
        operation["description"] = json!(demand(route.access, permission.as_str()));
    }
    let parameters = parameters(route, schemas);
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = &route.wire.request {
        let mut content = match body.schema {
            Some(schema) => json!({ "schema": schema(&mut schemas.requests) }),
            None => json!({}),
        };
        if let Some(example) = examples::request(route.operation_id) {
            content["example"] = example.clone();
        }
        operation["requestBody"] =
            json!({ "required": body.required, "content": { body.content_type: content } });
    }
    operation
}

fn demand(access: Access, permission: &str) -> String {
    match access {
        Access::PermissionAtIssuer(_) => format!("Needs `{permission}`, at least for this issuer."),
        Access::PermissionAtProfile(_) => {
            format!("Needs `{permission}`, at least for this profile.")
        }
        Access::Permission(_) | Access::Public | Access::Optional | Access::Authenticated => {
            format!("Needs `{permission}`.")
        }
    }
}

fn security(access: Access) -> Value {
    match access {
        Access::Public => json!([]),
        Access::Optional => json!([{}, { "bearer": [] }]),
        Access::Authenticated
        | Access::Permission(_)
        | Access::PermissionAtIssuer(_)
        | Access::PermissionAtProfile(_) => json!([{ "bearer": [] }]),
    }
}

// === parameters ===

/// Any text but one with a NUL, which no database compares with and every route refuses.
const NO_NUL: &str = r"^[^\u0000]*$";

/// The parameters that many routes share.
pub(super) fn shared_parameters() -> Value {
    json!({
        "page": {
            "name": "page", "in": "query", "description": "The number of the page, from 1; what is no such number is 1.",
            "schema": { "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": NO_NUL }], "default": 1 },
        },
        "per_page": {
            "name": "per_page", "in": "query", "description": "Rows on a page, 1 to 500; what is no such number is 50.",
            "schema": { "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 500 }, { "type": "string", "pattern": NO_NUL }], "default": 50 },
        },
    })
}

fn parameters(route: &RouteInfo, schemas: &mut Schemas) -> Vec<Value> {
    let mut parameters: Vec<Value> = path_parameters(route.path).map(path_parameter).collect();
    if route.wire.paged {
        for name in ["page", "per_page"] {
            parameters.push(json!({ "$ref": format!("#/components/parameters/{name}") }));
        }
    }
    parameters.extend(query_parameters(&route.wire, schemas));
    parameters
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    let pattern = match name {
        // Of an OCSP question: a serial in hex (RFC 5280 §4.1.2.2: at most 20 octets), or a request in base64 (RFC 6960 A.1).
        "request" => "^([0-9A-Fa-f]{1,40}|[A-Za-z0-9+/]{20,253}={0,2})$",
        "shard" => "^[0-9]{1,3}-of-[0-9]{1,3}$",
        _ => "^[A-Za-z0-9._-]{1,128}$",
    };
    json!({
        "name": name, "in": "path", "required": true,
        "schema": { "type": "string", "pattern": pattern },
    })
}

/// The properties of the query types, one parameter each.
fn query_parameters(wire: &Wire, schemas: &mut Schemas) -> Vec<Value> {
    let generator = &mut schemas.requests;
    let mut parameters = Vec::new();
    for schema_of in &wire.query {
        let schema = schema_of(generator).to_value();
        // A named type is a reference; its definition is what has the properties.
        let definition = match schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|path| path.rsplit('/').next())
        {
            Some(name) => generator.definitions().get(name).cloned().unwrap_or(schema),
            None => schema,
        };
        let required = definition
            .get("required")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let empty = Map::new();
        for (name, schema) in definition
            .get("properties")
            .and_then(Value::as_object)
            .unwrap_or(&empty)
        {
            parameters.push(json!({
                "name": name, "in": "query", "required": required.contains(&json!(name)), "schema": in_query(schema),
            }));
        }
    }
    parameters
}

/// A schema as a query can keep to it: there is no null there, and a text that nothing else is said of has no NUL.
fn in_query(schema: &Value) -> Value {
    let Some(schema) = schema.as_object() else {
        return schema.clone();
    };
    let mut said = schema.clone();
    said.retain(|_, value| !value.is_null());
    for key in ["enum", "type"] {
        if let Some(Value::Array(values)) = said.get_mut(key) {
            values.retain(|value| !value.is_null() && value != "null");
        }
    }
    if let Some(Value::Array(kinds)) = said.get("type")
        && let [kind] = &kinds[..]
    {
        let kind = kind.clone();
        said.insert("type".to_owned(), kind);
    }
    if let Some(Value::Array(choices)) = said.get("anyOf") {
        let choices = choices.iter().filter(|choice| choice["type"] != "null");
        let choices = choices.map(in_query).collect();
        said.insert("anyOf".to_owned(), choices);
    }
    let is_bounded = ["enum", "pattern", "format"]
        .iter()
        .any(|key| said.contains_key(*key));
    if !is_bounded && said.get("type").is_some_and(|kind| kind == "string") {
        said.insert("pattern".to_owned(), json!(NO_NUL));
    }
    Value::Object(said)
}

// === responses ===

fn responses(route: &RouteInfo, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    for answer in &route.wire.answers {
        let status = answer.status.as_str().to_owned();
        let description = answer.status.canonical_reason().unwrap_or("Done");
        let entry = responses
            .entry(status)
            .or_insert_with(|| json!({ "description": description }));
        if let Some((content_type, schema)) = answer.content {
            let media = match schema {
                Some(schema) => json!({ "schema": schema(&mut schemas.answers) }),
                None => json!({}),
            };
            let known = entry["content"].get(content_type).cloned();
            entry["content"][content_type] = match known {
                None => media,
                // One status with two shapes, such as the two envelopes of a list.
                Some(known) => json!({ "schema": { "anyOf": [known["schema"], media["schema"]] } }),
            };
        }
    }
    if route.etag {
        responses.insert(
            "304".to_owned(),
            json!({ "description": "The caller holds this answer already." }),
        );
    }
    for refusal in REFUSALS
        .iter()
        .filter(|refusal| may_refuse(route, refusal.status))
    {
        let reference = json!({ "$ref": format!("#/components/responses/{}", refusal.name) });
        let usual = if refusal.is_gate {
            "GateError"
        } else {
            "Error"
        };
        let usual = json!({ "$ref": format!("#/components/schemas/{usual}") });
        let shapes = route.wire.refusal_shapes.iter();
        let mut shapes: Vec<Value> = shapes
            .filter(|(status, _)| status.as_u16() == refusal.status)
            .map(|(_, schema)| schema(&mut schemas.answers).to_value())
            .collect();
        let response = if shapes.is_empty() {
            reference
        } else {
            shapes.push(usual);
            json!({
                "description": refusal.description,
                "content": { "application/json": { "schema": { "anyOf": shapes } } },
            })
        };
        responses
            .entry(refusal.status.to_string())
            .or_insert(response);
    }
    Value::Object(responses)
}

/// Whether a status follows from what the route is, or was declared.
fn may_refuse(route: &RouteInfo, status: u16) -> bool {
    let wire = &route.wire;
    let declared = wire
        .refusals
        .iter()
        .any(|refusal| refusal.as_u16() == status);
    declared
        || match status {
            400 => wire.request.is_some() || wire.paged || !wire.query.is_empty(),
            401 => route.access.needs_identity(),
            403 => route.access.permission().is_some(),
            404 => path_parameters(route.path).next().is_some(),
            408 | 413 => wire.request.is_some(),
            429 => route.rate_class != RateClass::Probe,
            500 => true,
            503 => route.access != Access::Public,
            _ => false,
        }
}

/// Statuses a route can declare as refusals and have described.
#[cfg(test)]
pub(super) fn is_described(status: http::StatusCode) -> bool {
    REFUSALS
        .iter()
        .any(|refusal| refusal.status == status.as_u16())
}
