//! JSON from strangers: read once, within bounds, and with no member twice.
//!
//! Two parsers that disagree about which of two equal members counts are a known way past a check (RFC 7515 §10.12, RFC 8259
//! §4), so such an object is refused. Members that are not known are passed over (RFC 8555 §7.3).

use std::{borrow::Cow, fmt};

use certctl_domain::acme::Problem;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor,
};

use crate::refuse::malformed;

/// How deep objects and lists may stand in each other. A new-account request with its binding needs four.
const MAX_DEPTH: u8 = 6;
/// How many members an object may have, so that looking for a second one of a name stays cheap.
const MAX_MEMBERS: usize = 64;
/// How many entries a list may have; an order of a hundred identifiers needs a hundred.
const MAX_ENTRIES: usize = 1024;

/// A value.
#[derive(Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// A number without fraction that fits.
    Integer(i64),
    /// Any other number.
    Number,
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    Object(Object<'a>),
}

/// An object.
#[derive(Debug, PartialEq, Default)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Object<'a> {
    /// Reads the one object of a text; `what` names it in the problem.
    pub(crate) fn parse(text: &'a [u8], what: &str) -> Result<Self, Problem> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let read = Depth(0)
            .deserialize(&mut deserializer)
            .and_then(|value| deserializer.end().map(|()| value));
        match read {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(malformed(format!("{what} is not a JSON object"))),
            Err(reason) => Err(malformed(format!("{what} is not good JSON: {reason}"))),
        }
    }

    /// Whether there is a member of this name, be it null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }

    /// The member of this name; null is the same as none.
    pub(crate) fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value)
            .filter(|value| **value != Value::Null)
    }

    /// A text, where there is one.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(malformed(format!("{name} is not a string"))),
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&self, name: &str) -> Result<&str, Problem> {
        self.text(name)?
            .ok_or_else(|| malformed(format!("{name} is missing")))
    }

    /// Octets as base64url that must be there.
    pub(crate) fn octets(&self, name: &str) -> Result<Vec<u8>, Problem> {
        crate::base64url::decode(self.required_text(name)?)
            .map_err(|reason| malformed(format!("{name} is {reason}")))
    }

    /// A truth value; none is false.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(malformed(format!("{name} is neither true nor false"))),
        }
    }

    /// A list, where there is one.
    pub(crate) fn list(&self, name: &str) -> Result<Option<&[Value<'a>]>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(_) => Err(malformed(format!("{name} is not a list"))),
        }
    }

    /// An object, where there is one.
    pub(crate) fn object(&self, name: &str) -> Result<Option<&Self>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(malformed(format!("{name} is not an object"))),
        }
    }
}

/// How many objects and lists there are around what is read.
#[derive(Clone, Copy)]
struct Depth(u8);

impl Depth {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.0 < MAX_DEPTH {
            Ok(Self(self.0 + 1))
        } else {
            Err(E::custom("nested too deep"))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(value).map_or(Value::Number, Value::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value<'de>, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(inside)? {
            if list.len() == MAX_ENTRIES {
                return Err(A::Error::custom("a list is too long"));
            }
            list.push(entry);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value<'de>, A::Error> {
        let inside = self.inside()?;
        let mut members: Vec<(Cow<'de, str>, Value<'de>)> = Vec::new();
        while let Some(name) = entries.next_key_seed(inside)? {
            let Value::Text(name) = name else {
                return Err(A::Error::invalid_type(Unexpected::Other("no name"), &self));
            };
            if members.iter().any(|(own, _)| *own == name) {
                return Err(A::Error::custom("a member occurs twice"));
            }
            if members.len() == MAX_MEMBERS {
                return Err(A::Error::custom("an object has too many members"));
            }
            members.push((name, entries.next_value_seed(inside)?));
        }
        Ok(Value::Object(Object(members)))
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEPTH, MAX_ENTRIES, MAX_MEMBERS, Object, Value};

    fn parse(text: &str) -> Result<Object<'_>, String> {
        Object::parse(text.as_bytes(), "it").map_err(|problem| problem.detail)
    }

    #[test]
    fn values_are_told_apart() {
        let object = parse(
            r#"{"a":"x","b":true,"c":7,"d":1.5,"e":null,"f":["\u0041"],"g":{"h":18446744073709551615}}"#,
        )
        .unwrap();
        assert_eq!(object.text("a"), Ok(Some("x")));
        assert_eq!(object.flag("b"), Ok(true));
        assert_eq!(object.get("c"), Some(&Value::Integer(7)));
        assert_eq!(object.get("d"), Some(&Value::Number));
        assert!(object.has("e") && object.get("e").is_none());
        assert_eq!(object.list("f"), Ok(Some(&[Value::Text("A".into())][..])));
        let inner = object.object("g").unwrap().unwrap();
        assert_eq!(inner.get("h"), Some(&Value::Number));
        assert!(object.text("b").is_err() && object.flag("a").is_err());
        assert!(object.list("a").is_err() && object.object("a").is_err());
        assert!(object.required_text("nothing").is_err());
    }

    #[test]
    fn a_member_that_occurs_twice_is_refused_however_it_is_spelt_and_wherever_it_stands() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
        ] {
            assert!(parse(text).unwrap_err().contains("twice"), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_or_is_followed_by_something_is_refused() {
        for text in [
            "",
            "[]",
            "1",
            "null",
            "{",
            "{}{}",
            "{} x",
            "{\"a\":\u{1}}",
            "\u{feff}{}",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Object::parse(b"{\"a\":\"\xff\"}", "it").is_err());
        assert!(parse(" {} \n").is_ok());
    }

    #[test]
    fn depth_members_and_entries_are_bounded() {
        let nested =
            |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(usize::from(MAX_DEPTH) - 1)).is_ok());
        assert!(parse(&nested(usize::from(MAX_DEPTH))).is_err());
        assert!(parse(&nested(50_000)).is_err());
        let members = |count: usize| {
            let members: Vec<String> = (0..count).map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(parse(&members(MAX_MEMBERS)).is_ok());
        assert!(parse(&members(MAX_MEMBERS + 1)).is_err());
        let entries = |count: usize| format!("{{\"a\":[{}]}}", vec!["0"; count].join(","));
        assert!(parse(&entries(MAX_ENTRIES)).is_ok());
        assert!(parse(&entries(MAX_ENTRIES + 1)).is_err());
    }
}
