//! JSON as bytes: find one value without building a tree, and say where text is
//! not JSON. A value keeps its text, digits and all.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    self, Deserialize as _, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

/// The text of the value at a JSON pointer (RFC 6901). Where a name occurs
/// twice, the last counts, as in most parsers.
pub(crate) fn field<'a>(bytes: &'a [u8], pointer: &str) -> Option<&'a str> {
    let mut found = [None];
    find(bytes, &[path(pointer)], &mut found);
    found[0]
}

/// How many pointers are followed at once.
pub(crate) const POINTERS_MAX: usize = 64;

/// The same for each of up to [`POINTERS_MAX`] pointers, in one pass.
pub(crate) fn fields<'a>(bytes: &'a [u8], pointers: &[impl AsRef<str>]) -> Vec<Option<&'a str>> {
    let paths: Vec<_> = pointers.iter().take(POINTERS_MAX).map(|it| path(it.as_ref())).collect();
    let mut found = vec![None; pointers.len()];
    find(bytes, &paths, &mut found);
    found
}

/// None when it is no pointer: it leads nowhere.
type Path<'p> = Option<Vec<Cow<'p, str>>>;

fn path(pointer: &str) -> Path<'_> {
    let is_pointer = pointer.is_empty() || pointer.starts_with('/');
    is_pointer.then(|| pointer.split('/').skip(1).map(unescape).collect())
}

fn find<'a>(bytes: &'a [u8], paths: &[Path<'_>], found: &mut [Option<&'a str>]) {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let wanted = Wanted::of(paths, |path| path.is_some());
    let read = At { paths, depth: 0, wanted, found }.deserialize(&mut json);
    if read.and_then(|()| json.end()).is_err() {
        found.fill(None);
    }
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

fn unescape(token: &str) -> Cow<'_, str> {
    match token.contains('~') {
        true => token.replace("~1", "/").replace("~0", "~").into(),
        false => token.into(),
    }
}

/// Which of the paths, a bit for each.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Wanted(u64);

impl Wanted {
    const NONE: Self = Self(0);

    fn of(paths: &[Path<'_>], is: impl Fn(&Path<'_>) -> bool) -> Self {
        let bits = paths.iter().enumerate().filter(|(_, path)| is(path)).map(|(at, _)| 1 << at);
        Self(bits.fold(0, |all, bit: u64| all | bit))
    }

    fn each(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let at = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(at)
        })
    }
}

/// The values at the ends of paths, looked for while the rest is skipped.
struct At<'p, 'f, 'de> {
    paths: &'p [Path<'p>],
    /// How many tokens of the wanted paths led here.
    depth: usize,
    wanted: Wanted,
    found: &'f mut [Option<&'de str>],
}

impl At<'_, '_, '_> {
    /// The next token of a wanted path.
    fn token(&self, at: usize) -> Option<&str> {
        self.paths[at].as_ref()?.get(self.depth).map(AsRef::as_ref)
    }

    /// Those of the wanted whose next token is such.
    fn whose(&self, is: impl Fn(Option<&str>) -> bool) -> Wanted {
        let bits = self.wanted.each().filter(|at| is(self.token(*at))).map(|at| 1 << at);
        Wanted(bits.fold(0, |all, bit: u64| all | bit))
    }
}

impl<'de> At<'_, '_, 'de> {
    /// One step further, for these.
    fn next(&mut self, wanted: Wanted) -> At<'_, '_, 'de> {
        // Of a name that occurs twice, the last counts.
        wanted.each().for_each(|at| self.found[at] = None);
        At { paths: self.paths, depth: self.depth + 1, wanted, found: self.found }
    }
}

impl<'de> DeserializeSeed<'de> for At<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        let here = self.whose(|token| token.is_none());
        if here == Wanted::NONE {
            return json.deserialize_any(self);
        }
        let value = <&RawValue>::deserialize(json)?.get();
        here.each().for_each(|at| self.found[at] = Some(value));
        let deeper = Wanted(self.wanted.0 & !here.0);
        if deeper != Wanted::NONE {
            let mut json = serde_json::Deserializer::from_str(value);
            let within = At { wanted: deeper, ..self };
            within.deserialize(&mut json).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for At<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(wanted) = map.next_key_seed(Named(&self))? {
            match wanted {
                Wanted::NONE => drop(map.next_value::<IgnoredAny>()?),
                some => map.next_value_seed(self.next(some))?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        // RFC 6901 §4: digits without a leading zero.
        let index = |token: &str| match token {
            "0" => Some(0),
            digits if digits.starts_with(|it: char| matches!(it, '1'..='9')) => digits.parse().ok(),
            _ => None,
        };
        let places: Vec<(usize, usize)> =
            (self.wanted.each()).filter_map(|at| Some((at, index(self.token(at)?)?))).collect();
        for place in 0_usize.. {
            let here = places.iter().filter(|(_, it)| *it == place);
            let wanted = Wanted(here.fold(0, |all, (at, _)| all | 1 << at));
            let more = match wanted {
                Wanted::NONE => items.next_element::<IgnoredAny>()?.is_some(),
                some => items.next_element_seed(self.next(some))?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Who wants the value of this key? Compared where it lies, without a copy.
struct Named<'a, 'p, 'f, 'de>(&'a At<'p, 'f, 'de>);

impl<'de> DeserializeSeed<'de> for Named<'_, '_, '_, '_> {
    type Value = Wanted;

    fn deserialize<D: de::Deserializer<'de>>(self, key: D) -> Result<Wanted, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_, '_, '_, '_> {
    type Value = Wanted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Wanted, E> {
        Ok(self.0.whose(|token| token == Some(key)))
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
        let pointers = ["/a/b/0", "x", "", "/a", "/a/b/1/c~0~1d", "/d", "/x"].map(str::to_owned);
        let each: Vec<_> = pointers.iter().map(|it| field(json.as_bytes(), it)).collect();
        assert_eq!(fields(json.as_bytes(), &pointers), each);
        assert_eq!(fields(b"{} x", &pointers), [None; 7]);
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
