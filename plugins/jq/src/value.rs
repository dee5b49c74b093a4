//! JSON text becomes jaq's values and back. Numbers that a program does not
//! calculate with keep their text, keys their order. What JSON cannot hold is an
//! error, never something like it.

use std::borrow::Cow;

use hifijson::SliceLexer;
use hifijson::num::LexWrite as _;
use hifijson::token::Lex as _;
use hifijson::value::{Value as Json, parse_bounded};
use jaq_json::{Map, Num, Val};
use plugpost_plugin::json::quoted;

/// How deep values may lie in one another, on the way in and on the way out:
/// far below where the stack would end.
const DEPTH_MAX: usize = 256;

/// Longer integers are not calculated with as such, but as floating-point
/// numbers: to turn digits into a number takes the square of their count.
const INTEGER_DIGITS_MAX: usize = 1000;

/// Read JSON that the host has found to be well-formed.
pub(crate) fn read(text: &str) -> Result<Val, String> {
    let mut lexer = SliceLexer::new(text.as_bytes());
    lexer
        .exactly_one(SliceLexer::ws_peek, |next, lexer| parse_bounded(DEPTH_MAX, next, lexer))
        .map(value)
        .map_err(|error| match error {
            hifijson::Error::Depth => too_deep(),
            other => other.to_string(),
        })
}

fn value(json: Json<&str, Cow<'_, str>>) -> Val {
    let text = |it: Cow<'_, str>| Val::utf8_str(it.into_owned());
    match json {
        Json::Null => Val::Null,
        Json::Bool(it) => Val::Bool(it),
        Json::Number((digits, parts)) => Val::Num(number(digits, parts.is_int())),
        Json::String(it) => text(it),
        Json::Array(items) => items.into_iter().map(value).collect(),
        Json::Object(members) => {
            let members = members.into_iter().map(|(name, it)| (text(name), value(it)));
            Val::obj(members.collect::<Map>())
        }
    }
}

fn number(digits: &str, is_integer: bool) -> Num {
    // As an integer -0 would lose its sign.
    let is_exact = is_integer && digits != "-0" && digits.len() <= INTEGER_DIGITS_MAX;
    let integer = is_exact.then(|| Num::from_str_radix(digits, 10)).flatten();
    integer.unwrap_or_else(|| Num::Dec(digits.to_owned().into()))
}

/// Write a value as JSON.
pub(crate) fn write(value: &Val) -> Result<String, String> {
    let mut text = String::new();
    write_to(&mut text, value, DEPTH_MAX)?;
    Ok(text)
}

fn write_to(text: &mut String, value: &Val, depth: usize) -> Result<(), String> {
    let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
    match value {
        Val::Null => text.push_str("null"),
        Val::Bool(it) => text.push_str(if *it { "true" } else { "false" }),
        Val::Num(it) => text.push_str(&number_text(it)?),
        Val::TStr(_) | Val::BStr(_) => text.push_str(&quoted(string_of(value)?)),
        Val::Arr(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_to(text, item, depth)?;
            }
            text.push(']');
        }
        Val::Obj(members) => {
            text.push('{');
            for (at, (key, value)) in members.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                text.push_str(&quoted(string_of(key)?));
                text.push(':');
                write_to(text, value, depth)?;
            }
            text.push('}');
        }
    }
    Ok(())
}

/// The text of a string; an error for everything else, bytes included.
pub(crate) fn string_of(value: &Val) -> Result<&str, String> {
    match value {
        Val::TStr(bytes) => {
            std::str::from_utf8(bytes).map_err(|_| "a string in it is not UTF-8".to_owned())
        }
        Val::BStr(_) => Err("it holds bytes, which JSON does not have".into()),
        _ => Err("a key in it is not a string".into()),
    }
}

/// A number as JSON writes it. Programs can make what JSON lacks: `1 / 0`, and
/// `"+1.5" | tonumber`.
pub(crate) fn number_text(number: &Num) -> Result<String, String> {
    let finite = |it: f64| match it.is_finite() {
        true => Ok(Num::Float(it).to_string()),
        false => Err("it holds a number that is not finite, which JSON does not have".to_owned()),
    };
    match number {
        Num::Int(_) | Num::BigInt(_) => Ok(number.to_string()),
        Num::Float(it) => finite(*it),
        Num::Dec(text) if is_json(text) => Ok(text.to_string()),
        Num::Dec(text) => finite(text.parse().unwrap_or(f64::NAN)),
    }
}

fn is_json(number: &str) -> bool {
    let mut lexer = SliceLexer::new(number.as_bytes());
    lexer.num_string().validated().is_ok() && lexer.as_slice().is_empty()
}

fn too_deep() -> String {
    format!("it is nested deeper than {DEPTH_MAX} levels")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> Result<String, String> {
        write(&read(text)?)
    }

    #[test]
    fn numbers_keep_their_text_and_keys_their_order() {
        for text in [
            "1.10",
            "-0",
            "-0.0",
            "1E400",
            "1e-05",
            "0.1000000000000000055511151231257827",
            "1234567890123456789012345678901234567890",
            "-2147483649",
            r#"{"z":1,"a":{"c":[],"b":{}},"m":[true,false,null]}"#,
            r#""größe \"\\ \n \u0001 ☕ 😀""#,
            r#"{"$serde_json::private::Number":"1"}"#,
        ] {
            assert_eq!(round(text).as_deref(), Ok(text));
        }
        let long = "7".repeat(100_000);
        assert_eq!(round(&long).as_deref(), Ok(long.as_str()));
    }

    #[test]
    fn space_goes_and_the_last_of_equal_keys_counts() {
        assert_eq!(round(" { \"a\" : 1 ,\n\"a\":[ 2 , 3 ] } ").as_deref(), Ok(r#"{"a":[2,3]}"#));
        assert_eq!(round(r#""\u00e9\/""#).as_deref(), Ok(r#""é/""#));
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{1:2}",
            "nul",
            "+1",
            ".5",
            "1.",
            "01 ",
            "NaN",
            "\"\\ud800\"",
            "\"a",
            "1 2",
            "# c\n1",
        ] {
            assert!(round(text).is_err(), "{text}: {:?}", round(text));
        }
    }

    #[test]
    fn what_lies_too_deep_is_an_error_and_not_the_end_of_the_stack() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(round(&nested(DEPTH_MAX)), Ok(nested(DEPTH_MAX)));
        assert_eq!(round(&nested(DEPTH_MAX + 1)), Err(too_deep()));
        assert_eq!(round(&nested(500_000)), Err(too_deep()));
    }
}
