//! JSON written from pieces that are JSON already, so that nothing is parsed
//! and written again: digits and key order stay as they came. There is no tree
//! here; a plugin that needs one takes `serde_json`.

/// A JSON object, built member by member in the order they are to stand.
#[derive(Debug)]
pub struct Object(String);

/// Room for a small one: to grow to that takes longer than to write it.
const BYTES: usize = 256;

impl Object {
    /// No members yet.
    pub fn new() -> Self {
        Self::with_room(BYTES)
    }

    /// No members yet, and room for about so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// A member whose value is this text, quoted and escaped.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        quote(&mut self.0, value);
        self
    }

    /// A member whose value is JSON text: what `field` gave, or a number.
    pub fn json(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.0.push_str(value);
        self
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        quote(&mut self.0, name);
        self.0.push(':');
    }

    /// The object as JSON text.
    pub fn finish(mut self) -> String {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        self.0
    }
}

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

/// Text as a JSON string.
pub fn quoted(text: &str) -> String {
    let mut json = String::new();
    quote(&mut json, text);
    json
}

/// The same, at the end of other JSON text.
fn quote(json: &mut String, text: &str) {
    // All of it, without a branch for each byte: most text is plain.
    let special = |found: bool, it: u8| found | (it < b' ') | (it == b'"') | (it == b'\\');
    if text.bytes().fold(false, special) {
        let quoted = serde_json::to_string(text);
        json.push_str(&quoted.expect("every text is a JSON string, and memory is the only writer"));
        return;
    }
    json.reserve(text.len() + 2);
    json.push('"');
    json.push_str(text);
    json.push('"');
}

/// Text from a JSON string, unescaped; none when it is another value.
pub fn text(json: &str) -> Option<String> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(inner.into());
    }
    serde_json::from_str(json).ok()
}

/// An id as text, whether its JSON text is a string's or a number's: platforms
/// disagree, some with themselves.
pub fn id(json: &str) -> Option<String> {
    let is_number = json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if is_number { Some(json.into()) } else { text(json).filter(|it| !it.is_empty()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_in_order_and_digits_stay() {
        let object = Object::new()
            .text("z", "1")
            .json("a", "1.10")
            .json("n", "1234567890123456789012345678901234567890");
        assert_eq!(
            object.finish(),
            r#"{"z":"1","a":1.10,"n":1234567890123456789012345678901234567890}"#
        );
        assert_eq!(Object::new().finish(), "{}");
    }

    #[test]
    fn text_is_escaped() {
        let object = Object::new().text("a\"b", "\\ \n \u{1} Zoë 🍞");
        assert_eq!(object.finish(), "{\"a\\\"b\":\"\\\\ \\n \\u0001 Zoë 🍞\"}");
    }

    #[test]
    fn an_id_is_a_string_or_a_number() {
        for (json, expected) in [(r#""q-1""#, "q-1"), (r#""\u00e4\n""#, "ä\n"), ("2279", "2279")] {
            assert_eq!(id(json).as_deref(), Some(expected));
        }
        for other in ["null", "true", "{}", "[1]", r#""""#, r#"""#, ""] {
            assert_eq!(id(other), None, "{other}");
        }
    }
}
