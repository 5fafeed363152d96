//! What the inputs of several nouns have in common.

use certctl_domain::{id::InvalidId, text_enum::UnknownValue, validation::InvalidField};
use certctl_repository::Error as RepositoryError;

use crate::Error;

/// The id of something new: the caller's, or one that is made.
pub(crate) fn new_id<T>(
    given: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, InvalidId>,
    make: impl FnOnce() -> T,
) -> Result<T, InvalidField> {
    match given.filter(|id| !id.is_empty()) {
        Some(id) => parse(id).map_err(|error| InvalidField::new("id", error.to_string())),
        None => Ok(make()),
    }
}

/// The id of another thing, which must be given.
pub(crate) fn reference<T>(
    field: &'static str,
    given: &str,
    parse: impl FnOnce(&str) -> Result<T, InvalidId>,
) -> Result<T, InvalidField> {
    if given.is_empty() {
        return Err(InvalidField::required(field));
    }
    parse(given).map_err(|error| InvalidField::new(field, error.to_string()))
}

/// One of the values of an enum.
pub(crate) fn one_of<T>(
    field: &'static str,
    given: &str,
    parse: impl FnOnce(&str) -> Result<T, UnknownValue>,
) -> Result<T, InvalidField> {
    parse(given).map_err(|error| InvalidField::new(field, error.to_string()))
}

/// What a reference leads to; the database would only say that one leads nowhere, not which.
pub(crate) fn known<T>(field: &'static str, found: Result<T, RepositoryError>) -> Result<T, Error> {
    found.map_err(|error| match error {
        RepositoryError::NotFound => InvalidField::new(field, "does not exist").into(),
        other => other.into(),
    })
}

/// The outcome of writing a row with one reference: what it led to may have gone since it was looked at.
pub(crate) fn written(
    outcome: Result<(), RepositoryError>,
    reference: &'static str,
    taken: impl FnOnce() -> String,
) -> Result<(), Error> {
    outcome.map_err(|error| match error {
        RepositoryError::AlreadyExists => Error::Conflict(taken()),
        RepositoryError::Reference => InvalidField::new(reference, "does not exist").into(),
        other => other.into(),
    })
}

/// The outcome of deleting a row that others may refer to.
pub(crate) fn deleted(
    outcome: Result<(), RepositoryError>,
    what: &'static str,
    id: impl ToString,
    referred_to: &str,
) -> Result<(), Error> {
    outcome.map_err(|error| match error {
        RepositoryError::NotFound => Error::not_found(what, id),
        RepositoryError::Reference => Error::Conflict(referred_to.to_owned()),
        other => other.into(),
    })
}
