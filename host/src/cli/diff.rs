//! What is different, on lines that begin with `-` and `+`, in red and green.

use anstyle::{AnsiColor, Style};
use serde_json::Value;
use similar::TextDiff;

/// Lines around a changed one.
const CONTEXT_LINES: usize = 2;

/// The changed lines of a text with some around them, and where they are.
pub(super) fn of_lines(then: &str, now: &str) -> String {
    let diff = TextDiff::from_lines(then, now);
    let mut hunks = diff.unified_diff();
    hunks.context_radius(CONTEXT_LINES).missing_newline_hint(false).to_string()
}

/// JSON on many lines, numbers as they are written; other bodies as text.
pub(super) fn readable(body: &[u8]) -> String {
    pretty(body).unwrap_or_else(|| text(body))
}

/// JSON on many lines, numbers as they are written.
pub(super) fn pretty(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    Some(format!("{value:#}\n"))
}

/// What is no text, or would move the terminal's cursor, in a form that shows it.
pub(super) fn text(body: &[u8]) -> String {
    let harmless = |it: char| !it.is_control() || matches!(it, '\n' | '\t');
    match std::str::from_utf8(body) {
        Ok(text) if text.chars().all(harmless) => text.to_owned(),
        _ => body.escape_ascii().to_string(),
    }
}

/// Each line after four spaces, in the colour of its sign.
pub(super) fn indented(text: &str) -> String {
    let line = |line: &str| {
        let style = match line.chars().next() {
            Some('-') => Style::new().fg_color(Some(AnsiColor::Red.into())),
            Some('+') => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Some('@') => Style::new().dimmed(),
            _ => Style::new(),
        };
        format!("    {style}{line}{style:#}")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
