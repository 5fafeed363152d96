//! Examples: what a client may send, as it would.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

/// A request body by the name of its operation. They are data, so they lie in a file of data.
static REQUESTS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("examples.json"))
        .expect("the file is part of the source, and a test reads it")
});

/// The body of a request that fits the operation.
pub(super) fn request(operation: &str) -> Option<&'static Value> {
    REQUESTS.get(operation)
}

/// The names of all operations that have an example, to find those of operations that are no more.
#[cfg(test)]
pub(super) fn operations() -> impl Iterator<Item = &'static str> {
    REQUESTS.keys().map(String::as_str)
}

/// The body of a refusal.
pub(super) fn refusal(status: u16, reason: &str, description: &str, is_gate: bool) -> Value {
    if is_gate {
        let text = match status {
            401 => "Invalid API key",
            403 => "Insufficient permissions",
            429 => "Rate limit exceeded",
            _ => reason,
        };
        return json!({ "error": text });
    }
    json!({
        "error": reason,
        "message": description,
        "request_id": "5f0c7f3e-3f5e-4a53-9a43-0c5a4a2f9d1b",
    })
}
