//! The problems that this crate raises in many places.

use certctl_domain::acme::{Problem, ProblemType};

pub(crate) fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemType::Malformed, detail)
}

pub(crate) fn unauthorized(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemType::Unauthorized, detail)
}
