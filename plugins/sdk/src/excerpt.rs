//! Pointing at a place in a text that a user wrote. Messages of plugins are one
//! line, so the caret stands in it: `line 2, column 7: expected term: .a | ^| .b`.

/// How much of the line is shown before and after the place.
const CHARACTERS_MAX: usize = 40;

/// What is wrong at a byte offset of a text: line and column counted from 1, in
/// characters, and the line with a caret before the place.
pub fn point_at(text: &str, offset: usize, what: &str) -> String {
    let offset = text.floor_char_boundary(offset);
    let (before, after) = text.split_at(offset);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |it| it + 1);
    let end = after.find('\n').map_or(text.len(), |it| offset + it);
    let (left, right) = (&text[start..offset], &text[offset..end]);
    let column = left.chars().count() + 1;

    let skipped = (column - 1).saturating_sub(CHARACTERS_MAX);
    let left: String = left.chars().skip(skipped).collect();
    let shown: String = right.chars().take(CHARACTERS_MAX).collect();
    let begin = if skipped > 0 { "…" } else { "" };
    let rest = if shown.len() < right.len() { "…" } else { "" };
    let excerpt = format!("{begin}{left}^{shown}{rest}").replace(char::is_control, " ");
    format!("line {line}, column {column}: {what}: {}", excerpt.trim())
}

#[cfg(test)]
mod tests {
    use super::point_at;

    #[test]
    fn the_place_is_told_by_line_column_and_caret() {
        for (text, offset, expected) in [
            (".a | )", 5, "line 1, column 6: odd: .a | ^)"),
            (".a |\n  .b |", 11, "line 2, column 7: odd: .b |^"),
            ("é\r\n\tü)", 7, "line 2, column 3: odd: ü^)"),
            ("", 0, "line 1, column 1: odd: ^"),
            ("ab", 99, "line 1, column 3: odd: ab^"),
            // In the middle of a character: before it.
            ("é", 1, "line 1, column 1: odd: ^é"),
        ] {
            assert_eq!(point_at(text, offset, "odd"), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_on_both_sides() {
        let text = "x".repeat(1000);
        let half = "x".repeat(40);
        let expected = format!("line 1, column 501: odd: …{half}^{half}…");
        assert_eq!(point_at(&text, 500, "odd"), expected);
    }
}
