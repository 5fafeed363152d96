//! Problems and identifiers as JSON, in a form of their own: what is stored must be readable whatever becomes of the wire.

use certctl_domain::acme::{Identifier, Problem, ProblemType, Subproblem};
use serde_json::{Value, json};

pub(super) fn identifiers(identifiers: &[Identifier]) -> Value {
    let one = |identifier: &Identifier| json!({"type": identifier.identifier_type().as_str(), "value": identifier.to_string()});
    Value::Array(identifiers.iter().map(one).collect())
}

pub(super) fn read_identifiers(stored: &Value) -> Option<Vec<Identifier>> {
    let one = |entry: &Value| {
        Identifier::from_stored(entry.get("type")?.as_str()?, entry.get("value")?.as_str()?)
    };
    stored.as_array()?.iter().map(one).collect()
}

pub(super) fn problem(problem: &Problem) -> Value {
    let sub = |one: &Subproblem| {
        let identifier = one
            .identifier
            .as_ref()
            .map(|(kind, value)| json!({"type": kind, "value": value}));
        json!({"type": one.kind.as_str(), "detail": one.detail, "identifier": identifier})
    };
    let subproblems: Vec<Value> = problem.subproblems.iter().map(sub).collect();
    json!({"type": problem.kind.as_str(), "detail": problem.detail, "status": problem.status, "subproblems": subproblems})
}

pub(super) fn read_problem(stored: &Value) -> Option<Problem> {
    let text = |from: &Value, name: &str| from.get(name)?.as_str().map(str::to_owned);
    let sub = |one: &Value| {
        let identifier = one.get("identifier").filter(|value| !value.is_null());
        Some(Subproblem {
            kind: ProblemType::parse(one.get("type")?.as_str()?)?,
            detail: text(one, "detail")?,
            identifier: match identifier {
                Some(of) => Some((text(of, "type")?, text(of, "value")?)),
                None => None,
            },
        })
    };
    let subproblems = stored.get("subproblems").and_then(Value::as_array);
    Some(Problem {
        kind: ProblemType::parse(stored.get("type")?.as_str()?)?,
        detail: text(stored, "detail")?,
        status: stored.get("status")?.as_u64()?.try_into().ok()?,
        subproblems: match subproblems {
            Some(list) => list.iter().map(sub).collect::<Option<_>>()?,
            None => Vec::new(),
        },
    })
}

#[cfg(test)]
mod tests {
    use certctl_domain::acme::{Identifier, Problem, ProblemType, Subproblem};

    use super::*;

    #[test]
    fn what_is_stored_is_read_back() {
        let names = [
            Identifier::dns("*.example.com").unwrap(),
            Identifier::ip("2001:db8::1").unwrap(),
        ];
        assert_eq!(read_identifiers(&identifiers(&names)).unwrap(), names);
        let mut told = Problem::new(ProblemType::Compound, "several").with_status(403);
        assert_eq!(read_problem(&problem(&told)).unwrap(), told);
        told.subproblems = vec![
            Subproblem::of(ProblemType::Dns, "no answer", &names[0]),
            Subproblem {
                kind: ProblemType::Tls,
                detail: "no".to_owned(),
                identifier: None,
            },
        ];
        assert_eq!(read_problem(&problem(&told)).unwrap(), told);
    }

    #[test]
    fn what_nobody_wrote_is_not_taken() {
        assert_eq!(
            read_identifiers(&json!([{"type": "dns", "value": "a b"}])),
            None
        );
        assert_eq!(read_identifiers(&json!({})), None);
        assert_eq!(
            read_problem(&json!({"type": "odd", "detail": "", "status": 400})),
            None
        );
    }
}
