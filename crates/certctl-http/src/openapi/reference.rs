//! The reference page: the document again, for people who read.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Map, Value};

use super::openapi_document;

/// The page of all routes and schemas, in Markdown.
#[must_use]
pub fn api_reference() -> String {
    let document = openapi_document();
    let mut page = String::from(
        "# API reference\n\n\
        Made from the code by `cargo xtask openapi`; the same as JSON is `openapi/openapi.json`, which every server serves at\n\
        `/api/v1/openapi.json`.\n\
        Every answer carries an `X-Request-ID`; errors have the shapes `Error` and `GateError` below.\n",
    );
    for (tag, operations) in by_tag(&document["paths"]) {
        let _ = write!(page, "\n## {tag}\n");
        for operation in operations {
            operation.write(&mut page);
        }
    }
    page.push_str("\n# Schemas\n");
    for (name, schema) in entries(&document["components"]["schemas"]) {
        write_schema(&mut page, name, schema);
    }
    page
}

struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    described: &'a Value,
}

fn by_tag(paths: &Value) -> BTreeMap<&str, Vec<Operation<'_>>> {
    let mut tags: BTreeMap<&str, Vec<Operation<'_>>> = BTreeMap::new();
    for (path, methods) in entries(paths) {
        for (method, described) in entries(methods) {
            let tag = described["tags"][0].as_str().unwrap_or("other");
            tags.entry(tag).or_default().push(Operation {
                method,
                path,
                described,
            });
        }
    }
    tags
}

impl Operation<'_> {
    fn write(&self, page: &mut String) {
        let described = self.described;
        let _ = write!(
            page,
            "\n### {} {}\n\n{}.",
            self.method.to_uppercase(),
            self.path,
            text(&described["summary"])
        );
        if let Some(needs) = described["description"].as_str() {
            let _ = write!(page, " {needs}");
        }
        page.push('\n');
        self.write_parameters(page);
        self.write_body(page);
        self.write_answers(page);
    }

    fn write_parameters(&self, page: &mut String) {
        let parameters = self.described["parameters"].as_array();
        let inline = parameters
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "query");
        for parameter in inline {
            let _ = write!(
                page,
                "\n- `{}`{}: {}",
                text(&parameter["name"]),
                if parameter["required"] == true {
                    " (required)"
                } else {
                    ""
                },
                one_line(
                    parameter["schema"]["description"]
                        .as_str()
                        .unwrap_or("see the schema")
                ),
            );
        }
        let is_paged = parameters.into_iter().flatten().any(|parameter| {
            parameter["$ref"]
                .as_str()
                .is_some_and(|to| to.ends_with("/page"))
        });
        if is_paged {
            page.push_str("\n- `page`, `per_page`: which page, and rows on it (1 to 500)");
        }
        page.push('\n');
    }

    fn write_body(&self, page: &mut String) {
        for (content_type, media) in entries(&self.described["requestBody"]["content"]) {
            let _ = write!(page, "\nTakes {}", shape(content_type, &media["schema"]));
            match media.get("example") {
                Some(example) => {
                    let _ = write!(page, ", such as\n\n```json\n{example:#}\n```\n");
                }
                None => page.push('\n'),
            }
        }
    }

    fn write_answers(&self, page: &mut String) {
        let mut refusals = Vec::new();
        for (status, answer) in entries(&self.described["responses"]) {
            if answer.get("$ref").is_some() {
                refusals.push(status);
                continue;
            }
            let shapes: Vec<String> = entries(&answer["content"])
                .map(|(content_type, media)| shape(content_type, &media["schema"]))
                .collect();
            let what = if shapes.is_empty() {
                "no body".to_owned()
            } else {
                shapes.join(" or ")
            };
            let _ = write!(page, "\nAnswers {status}: {what}.");
        }
        let _ = write!(page, "\nRefuses with {}.\n", refusals.join(", "));
    }
}

/// A body in words: its content type unless it is JSON, and the name of its schema.
fn shape(content_type: &str, schema: &Value) -> String {
    let named = kind(schema);
    match content_type {
        "application/json" => named,
        other if named == "any" => format!("`{other}`"),
        other => format!("{named} as `{other}`"),
    }
}

fn write_schema(page: &mut String, name: &str, schema: &Value) {
    let _ = write!(page, "\n## {name}\n");
    if let Some(description) = schema["description"].as_str() {
        let _ = write!(page, "\n{}\n", one_line(description));
    }
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut fields = entries(&schema["properties"]).peekable();
    if fields.peek().is_none() {
        let _ = write!(page, "\n{}\n", kind(schema));
        return;
    }
    page.push_str("\n| Field | Type | |\n|---|---|---|\n");
    for (field, of) in fields {
        let always = if required.contains(&field) { "" } else { "?" };
        let description = of["description"].as_str().unwrap_or_default();
        let _ = writeln!(
            page,
            "| `{field}`{always} | {} | {} |",
            kind(of),
            one_line(description).replace('|', "\\|")
        );
    }
}

/// A schema in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(path) = schema["$ref"].as_str() {
        let name = path.rsplit('/').next().unwrap_or(path);
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for several in ["anyOf", "oneOf"] {
        if let Some(of) = schema[several].as_array() {
            let kinds: Vec<String> = of.iter().map(kind).collect();
            return kinds.join(" or ");
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        return values.join(" ");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return "any".to_owned(),
    };
    let words = types.iter().map(|one| match *one {
        "array" => format!("array of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map to {}", kind(&schema["additionalProperties"]))
        }
        "string" if schema["format"].is_string() => text(&schema["format"]).to_owned(),
        other => other.to_owned(),
    });
    words.collect::<Vec<_>>().join(" or ")
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value
        .as_object()
        .into_iter()
        .flat_map(Map::iter)
        .map(|(key, value)| (key.as_str(), value))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
