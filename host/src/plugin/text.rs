//! Text from a guest, made fit for logs, terminals and stores.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text cut to size, with nothing in it that could move a terminal's cursor
/// or forge a line.
pub(super) fn printable(message: &str, bytes_max: usize) -> Cow<'_, str> {
    let cut = message.floor_char_boundary(bytes_max);
    let kept = &message[..cut];
    if cut == message.len() && !kept.contains(char::is_control) {
        return Cow::Borrowed(kept);
    }
    let mut line = String::with_capacity(kept.len() + 8);
    for character in kept.chars() {
        match character.is_control() {
            true => write!(line, "{}", character.escape_default()).expect("a String takes it"),
            false => line.push(character),
        }
    }
    if cut < message.len() {
        line.push_str(" [cut]");
    }
    Cow::Owned(line)
}

/// The same where there may be several lines, which stay.
pub(super) fn lines(message: &str, bytes_max: usize) -> String {
    let cut = message.floor_char_boundary(bytes_max);
    let fit = |line: &str| printable(&line.replace('\t', "    "), usize::MAX).into_owned();
    let kept = message[..cut].lines().map(fit).collect::<Vec<_>>().join("\n");
    if cut < message.len() { kept + " [cut]" } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_forge_a_log_line() {
        assert_eq!(printable("plain", 100), "plain");
        assert_eq!(printable("a\nb\u{1b}[31m", 100), "a\\nb\\u{1b}[31m");
        assert_eq!(printable("äöü", 3), "ä [cut]");
        assert_eq!(lines("a\nb\u{1b}[31m", 100), "a\nb\\u{1b}[31m");
        assert_eq!(lines("a\n\töü", 5), "a\n    ö [cut]");
    }
}
