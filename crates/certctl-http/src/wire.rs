//! Values that many wire types share.

use std::borrow::Cow;

use certctl_domain::{id::TeamId, time::Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A point in time as RFC 3339 text. A time that is not known yet is the year 1, which existing typed clients read as
/// "no time" (api §11.2); fields that may be absent are an `Option` of this instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rfc3339(Option<Timestamp>);

impl Rfc3339 {
    /// The time, or the zero value of the wire.
    #[must_use]
    pub const fn or_zero(time: Option<Timestamp>) -> Self {
        Self(time)
    }

    /// The time, unless it is the zero value.
    #[must_use]
    pub const fn get(self) -> Option<Timestamp> {
        self.0
    }
}

impl From<Timestamp> for Rfc3339 {
    fn from(time: Timestamp) -> Self {
        Self(Some(time))
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(time) => serializer.collect_str(&time),
            None => serializer.serialize_str(Timestamp::ZERO_ON_WIRE),
        }
    }
}

impl<'de> Deserialize<'de> for Rfc3339 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        if text == Timestamp::ZERO_ON_WIRE {
            return Ok(Self(None));
        }
        text.parse()
            .map(|time| Self(Some(time)))
            .map_err(D::Error::custom)
    }
}

impl JsonSchema for Rfc3339 {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "examples": ["2026-01-31T09:30:00Z"] })
    }
}

/// An id (api §2.4).
pub(crate) const ID: &str = "^[A-Za-z0-9._-]{1,128}$";

/// An id, or an empty text that says as much as none.
pub(crate) const ID_OR_NONE: &str = "^[A-Za-z0-9._-]{0,128}$";

/// An id that the caller chose for what is to be made (api §2.4); an empty one says as much as none. It is checked wherever it is
/// sent, also where it is not read.
#[derive(Debug)]
pub(crate) struct ChosenId(String);

impl ChosenId {
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for ChosenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !text.is_empty() {
            // What is an id is the same for all of them.
            TeamId::parse(&text).map_err(D::Error::custom)?;
        }
        Ok(Self(text))
    }
}

impl JsonSchema for ChosenId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ChosenId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": ID_OR_NONE })
    }
}

/// The schema of a request where something is made: what may be absent from a change, and is needed now, is required.
pub(crate) fn requiring<T: JsonSchema>(
    generator: &mut SchemaGenerator,
    fields: &[&'static str],
) -> Schema {
    let mut schema = T::json_schema(generator);
    schema.insert("required".to_owned(), fields.into());
    for field in fields {
        let Some(said) = schema.pointer_mut(&format!("/properties/{field}")) else {
            continue;
        };
        said["type"] = "string".into();
        said["minLength"] = 1.into();
        if let Some(values) = said
            .get_mut("enum")
            .and_then(serde_json::Value::as_array_mut)
        {
            values.retain(|value| value.as_str().is_some_and(|text| !text.is_empty()));
        }
    }
    schema
}

/// Names the schema of a request where something is made.
macro_rules! creation {
    ($new:ident: $request:ty, $($field:literal),+) => {
        /// The request where something is made; only its schema is used.
        pub(crate) struct $new;

        impl JsonSchema for $new {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($new).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::wire::requiring::<$request>(generator, &[$($field),+])
            }
        }
    };
}

pub(crate) use creation;

/// A text that is kept: no control characters but tabs and line ends, which is also what the validation of the domain takes.
pub(crate) const TEXT: &str = r"^[^\u0000-\u0008\u000B-\u001F\u007F-\u009F]*$";

/// The same, and not blank.
pub(crate) const WORDS: &str = r"^[^\u0000-\u0008\u000B-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F][^\u0000-\u0008\u000B-\u001F\u007F-\u009F]*$";

/// What is said by `true` and `1`, and not by anything else.
pub(crate) fn lenient_flag(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "boolean" }, { "type": "string" }], "default": false })
}

/// The number of a page, where anything else counts as the first (api §8).
pub(crate) fn lenient_page(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string" }] })
}

/// Rows on a page, where anything else counts as not said (api §8).
pub(crate) fn lenient_rows(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 500 }, { "type": "string" }] })
}

/// A time, or an empty text that says as much as none.
pub(crate) fn time_or_empty(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string", "format": "date-time" }, { "const": "" }] })
}

/// What an enum is in a schema: its canonical spellings.
macro_rules! spellings {
    ($enum:ty) => {
        <$enum>::ALL
            .iter()
            .map(|value| value.as_str())
            .collect::<Vec<_>>()
    };
    // What may be left out; an empty text says the same as none.
    ($enum:ty, or none) => {
        <$enum>::ALL
            .iter()
            .map(|value| Some(value.as_str()))
            .chain([Some(""), None])
            .collect::<Vec<_>>()
    };
}

pub(crate) use spellings;

#[cfg(test)]
mod tests {
    use certctl_domain::time::Timestamp;

    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    use super::{ChosenId, Rfc3339, requiring};

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Change {
        name: Option<String>,
        #[schemars(extend("enum" = ["big", "", null]))]
        kind: Option<String>,
        note: Option<String>,
    }

    #[test]
    fn what_is_made_needs_what_a_change_may_leave_out() {
        let mut generator = schemars::SchemaGenerator::default();
        let schema = requiring::<Change>(&mut generator, &["name", "kind"]);
        assert_eq!(schema.get("required"), Some(&json!(["name", "kind"])));
        let field = |name: &str| schema.pointer(&format!("/properties/{name}")).cloned();
        assert_eq!(
            field("name"),
            Some(json!({ "type": "string", "minLength": 1 }))
        );
        let kind = field("kind").unwrap();
        assert_eq!(
            (&kind["type"], &kind["enum"]),
            (&json!("string"), &json!(["big"]))
        );
        assert_eq!(field("note").unwrap()["type"], json!(["string", "null"]));
    }

    #[test]
    fn an_id_that_is_none_is_refused_and_an_empty_one_is_not() {
        let id = |text: &str| serde_json::from_value::<ChosenId>(json!(text));
        assert_eq!(id("t-web.1").unwrap().into_string(), "t-web.1");
        assert_eq!(id("").unwrap().into_string(), "");
        for text in ["a b", "é", "a/b", "\n", &"x".repeat(129)] {
            assert!(id(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_time_that_is_not_known_is_the_year_one_both_ways() {
        let unknown = Rfc3339::or_zero(None);
        assert_eq!(
            serde_json::to_string(&unknown).unwrap(),
            r#""0001-01-01T00:00:00Z""#
        );
        assert_eq!(
            serde_json::from_str::<Rfc3339>(r#""0001-01-01T00:00:00Z""#).unwrap(),
            unknown
        );
    }

    #[test]
    fn a_time_is_rfc_3339_both_ways_and_nothing_else_is_taken() {
        let time = Rfc3339::from(Timestamp::from_micros(1_700_000_000_250_000));
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, r#""2023-11-14T22:13:20.25Z""#);
        assert_eq!(serde_json::from_str::<Rfc3339>(&text).unwrap(), time);
        assert!(serde_json::from_str::<Rfc3339>(r#""tomorrow""#).is_err());
        assert!(serde_json::from_str::<Rfc3339>("5").is_err());
    }
}
