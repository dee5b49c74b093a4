//! JSON as bytes: find one value without building a tree, and say where text is
//! not JSON. A value keeps its text, digits and all.

use std::fmt;

use serde::de::{
    self, Deserialize as _, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

/// The text of the value at a JSON pointer (RFC 6901). Where a name occurs
/// twice, the last counts, as in most parsers.
pub(crate) fn field<'a>(bytes: &'a [u8], pointer: &str) -> Option<&'a str> {
    if !(pointer.is_empty() || pointer.starts_with('/')) {
        return None;
    }
    let path: Vec<String> = pointer.split('/').skip(1).map(unescape).collect();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let found = At(&path).deserialize(&mut json).ok()?;
    json.end().ok()?;
    found.map(RawValue::get)
}

/// The string at a JSON pointer, unescaped.
pub(crate) fn text(bytes: &[u8], pointer: &str) -> Option<String> {
    serde_json::from_str(field(bytes, pointer)?).ok()
}

/// Where and why the bytes are not JSON; none when they are.
pub(crate) fn error(bytes: &[u8]) -> Option<String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = IgnoredAny::deserialize(&mut json).and_then(|_| json.end());
    read.err().map(|error| error.to_string())
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// The value at the end of a path, looked for while the rest is skipped.
struct At<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: de::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        match self.0.is_empty() {
            true => <&RawValue>::deserialize(json).map(Some),
            false => json.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (name, rest) = self.0.split_first().expect("deserialize has seen that it is not empty");
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Is(name))? {
            match is_it {
                true => found = map.next_value_seed(At(rest))?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let (token, rest) =
            self.0.split_first().expect("deserialize has seen that it is not empty");
        // RFC 6901 §4: digits without a leading zero.
        let index = match token.as_str() {
            "0" => Some(0),
            digits if digits.starts_with(|it: char| matches!(it, '1'..='9')) => digits.parse().ok(),
            _ => None,
        };
        let mut found = None;
        for at in 0_usize.. {
            let more = match index == Some(at) {
                true => items.next_element_seed(At(rest))?.map(|value| found = value).is_some(),
                false => items.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Is the key this name? Compared where it lies, without a copy.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: de::Deserializer<'de>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_and_keeps_its_text() {
        let json = r#"{"a":{"b":[1.10,{"c~/d":"x"},[]]},"n":12345678901234567890123456789012345678901,"":0,"d":1,"d":2}"#;
        let check =
            |pointer, expected| assert_eq!(field(json.as_bytes(), pointer), expected, "{pointer}");
        check("", Some(json));
        check("/a/b/0", Some("1.10"));
        check("/a/b/1/c~0~1d", Some(r#""x""#));
        check("/n", Some("12345678901234567890123456789012345678901"));
        check("/", Some("0"));
        check("/d", Some("2"));
        for absent in [
            "/x",
            "/a/b/3",
            "/a/b/00",
            "/a/b/-",
            "/n/x",
            "a",
            "/a/b/0/0",
            "/a/b/18446744073709551616",
        ] {
            check(absent, None);
        }
        assert_eq!(text(br#"{"s":"\u00e4\n"}"#, "/s").as_deref(), Some("ä\n"));
        assert_eq!(text(br#"{"s":1}"#, "/s"), None);
    }

    #[test]
    fn what_is_not_json_has_a_place() {
        assert_eq!(error(br#"{"a":[1,2]}"#), None);
        assert_eq!(field(br#"{"a":1} x"#, "/a"), None);
        let message = error(b"{\n\"name\": \"x\"\n\"events\": []}").expect("not JSON");
        assert!(message.contains("line 3 column 1"), "{message}");
        assert!(error(&[b'['; 100_000]).is_some());
        assert!(error(b"").is_some());
    }
}
