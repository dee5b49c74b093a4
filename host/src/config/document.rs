//! A TOML file with its positions: every value knows where it stands, every key
//! that nobody asked for is a problem, and reading goes on after one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Found, Problem, Settings};

/// Line and column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Marked<T> {
    pub(crate) value: T,
    pub(crate) at: Position,
}

impl<T> Marked<T> {
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Marked<U> {
        Marked { value: f(self.value), at: self.at }
    }
}

/// A file being read; problems gather in it.
pub(super) struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    found: RefCell<&'a mut Found>,
    /// A file that is not TOML has that one problem; what is missing from it is none.
    muted: Cell<bool>,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str, found: &'a mut Found) -> Self {
        Self { file, text, found: RefCell::new(found), muted: Cell::new(false) }
    }

    /// Read the file with `read`; a file that is not TOML is an empty table.
    pub(super) fn read<T>(&self, read: impl FnOnce(Table<'_, 'a>) -> T) -> T {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        if let Some(error) = errors.first() {
            self.problem(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()));
            self.muted.set(true);
        }
        read(Table {
            document: self,
            table: root.get_ref(),
            path: String::new(),
            asked: RefCell::default(),
        })
    }

    pub(super) fn problem(&self, span: Range<usize>, message: impl Into<String>) {
        self.problem_at(self.position(span.start), message);
    }

    pub(super) fn problem_at(&self, at: Position, message: impl Into<String>) {
        if self.muted.get() {
            return;
        }
        self.found.borrow_mut().problems.push(Problem {
            file: self.file.into(),
            at: Some((at.line, at.column)),
            message: message.into(),
        });
    }

    /// Nothing is read from where a secret is kept: something else stands in for it.
    pub(super) fn has_stand_ins(&self) -> bool {
        self.found.borrow().stand_ins
    }

    /// A file that a secret is read from, whether it is there or not.
    pub(super) fn secret_file(&self, path: &Path) {
        self.found.borrow_mut().secret_files.push(path.into());
    }

    fn position(&self, offset: usize) -> Position {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |it| it + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// A table being read. Dropping it reports the keys that nobody asked for.
pub(super) struct Table<'d, 'a> {
    document: &'d Document<'a>,
    table: &'d DeTable<'d>,
    /// Dotted, for messages; empty at the root.
    path: String,
    asked: RefCell<BTreeSet<String>>,
}

impl<'d, 'a> Table<'d, 'a> {
    pub(super) fn document(&self) -> &'d Document<'a> {
        self.document
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn is_table(&self, key: &str) -> bool {
        self.get(key).is_some_and(|it| matches!(it.get_ref(), DeValue::Table(_)))
    }

    pub(super) fn position_of(&self, key: &str) -> Option<Position> {
        self.get(key).map(|it| self.document.position(it.span().start))
    }

    pub(super) fn string(&self, key: &str) -> Option<Marked<String>> {
        let value = self.get(key)?;
        self.string_of(key, value)
    }

    pub(super) fn boolean(&self, key: &str) -> Option<Marked<bool>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(it) => Some(self.mark(*it, value)),
            _ => self.expected(key, value, "true or false"),
        }
    }

    pub(super) fn integer(&self, key: &str, range: Range<i64>) -> Option<Marked<i64>> {
        let value = self.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(it) => i64::from_str_radix(it.as_str(), it.radix()).ok(),
            _ => None,
        };
        match number.filter(|it| range.contains(it)) {
            Some(number) => Some(self.mark(number, value)),
            None => {
                let wanted = format!("a whole number from {} to {}", range.start, range.end - 1);
                self.expected(key, value, &wanted)
            }
        }
    }

    /// A number from 0 to 1.
    pub(super) fn share(&self, key: &str) -> Option<Marked<f64>> {
        let value = self.get(key)?;
        let number = match value.get_ref() {
            DeValue::Float(it) => it.as_str().parse().ok(),
            DeValue::Integer(it) => it.as_str().parse().ok(),
            _ => None,
        };
        match number.filter(|it| (0.0..=1.0).contains(it)) {
            Some(number) => Some(self.mark(number, value)),
            None => self.expected(key, value, "a number from 0 to 1"),
        }
    }

    pub(super) fn duration(&self, key: &str) -> Option<Marked<Duration>> {
        self.parsed(key, parse_duration)
    }

    /// A string that means something more.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Marked<T>> {
        let text = self.string(key)?;
        self.parse(text, parse)
    }

    /// A string or an array of strings.
    pub(super) fn strings(&self, key: &str) -> Option<Vec<Marked<String>>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Array(items) => {
                let items = items.iter().filter_map(|it| match it.get_ref() {
                    DeValue::String(text) => Some(self.mark(text.to_string(), it)),
                    other => {
                        let (name, found) = (self.name(key), other.type_str());
                        let message = format!("`{name}` holds strings; this is {found}");
                        self.document.problem(it.span(), message);
                        None
                    }
                });
                Some(items.collect())
            }
            _ => self.string_of(key, value).map(|it| vec![it]),
        }
    }

    /// As [`parsed`](Self::parsed), of each string.
    pub(super) fn all_parsed<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Marked<T>>> {
        let texts = self.strings(key)?;
        Some(texts.into_iter().filter_map(|it| self.parse(it, &parse)).collect())
    }

    pub(super) fn table(&self, key: &str) -> Option<Marked<Self>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(self.mark(self.below(key, table), value)),
            _ => self.expected(key, value, "a table"),
        }
    }

    /// A table, or an array of tables.
    pub(super) fn tables(&self, key: &str) -> Vec<Marked<Self>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let one = |value: &'d Spanned<DeValue<'d>>| match value.get_ref() {
            DeValue::Table(table) => Some(self.mark(self.below(key, table), value)),
            _ => self.expected(key, value, "a table"),
        };
        match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(one).collect(),
            _ => one(value).into_iter().collect(),
        }
    }

    /// The names of all keys; each counts as asked for.
    pub(super) fn keys(&self) -> Vec<Marked<String>> {
        let keys = self.table.iter().map(|(key, _)| {
            let name = key.get_ref().to_string();
            self.asked.borrow_mut().insert(name.clone());
            Marked { value: name, at: self.document.position(key.span().start) }
        });
        keys.collect()
    }

    /// A table as JSON, whatever is in it.
    pub(super) fn settings(&self, key: &str) -> Settings {
        let mut settings = Settings { value: Value::Object(Default::default()), positions: vec![] };
        if let Some(value) = self.get(key) {
            match value.get_ref() {
                DeValue::Table(_) => {
                    settings.value = self.json(value, String::new(), &mut settings.positions);
                }
                _ => drop(self.expected::<()>(key, value, "a table")),
            }
        }
        settings
    }

    /// Report a problem with a key of this table, or with the table.
    pub(super) fn problem(&self, at: Position, message: impl Into<String>) {
        self.document.problem_at(at, message);
    }

    fn get(&self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.table.get(key)
    }

    fn below(&self, key: &str, table: &'d DeTable<'d>) -> Self {
        Self { document: self.document, table, path: self.name(key), asked: RefCell::default() }
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn mark<T>(&self, value: T, at: &Spanned<DeValue<'d>>) -> Marked<T> {
        Marked { value, at: self.document.position(at.span().start) }
    }

    fn string_of(&self, key: &str, value: &Spanned<DeValue<'d>>) -> Option<Marked<String>> {
        match value.get_ref() {
            DeValue::String(it) => Some(self.mark(it.to_string(), value)),
            _ => self.expected(key, value, "a string"),
        }
    }

    fn parse<T>(
        &self,
        text: Marked<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Marked<T>> {
        match parse(&text.value) {
            Ok(value) => Some(Marked { value, at: text.at }),
            Err(message) => {
                self.problem(text.at, message);
                None
            }
        }
    }

    fn expected<T>(&self, key: &str, value: &Spanned<DeValue<'d>>, wanted: &str) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::Integer(it) => it.as_str(),
            DeValue::Float(it) => it.as_str(),
            other => other.type_str(),
        };
        let message = format!("`{}` is {wanted}, not {found}", self.name(key));
        self.document.problem(value.span(), message);
        None
    }

    fn json(
        &self,
        value: &Spanned<DeValue<'d>>,
        pointer: String,
        positions: &mut Vec<(String, Position)>,
    ) -> Value {
        let json = match value.get_ref() {
            DeValue::String(it) => Value::String(it.to_string()),
            DeValue::Boolean(it) => Value::Bool(*it),
            DeValue::Datetime(it) => Value::String(it.to_string()),
            DeValue::Integer(it) => match i128::from_str_radix(it.as_str(), it.radix()) {
                Ok(number) => {
                    serde_json::Number::from_i128(number).map_or(Value::Null, Value::Number)
                }
                Err(_) => Value::Null,
            },
            // The text as written: `inf` and `nan` are not JSON and become null.
            DeValue::Float(it) => serde_json::from_str(it.as_str()).unwrap_or(Value::Null),
            DeValue::Array(items) => items
                .iter()
                .enumerate()
                .map(|(at, item)| self.json(item, format!("{pointer}/{at}"), positions))
                .collect(),
            DeValue::Table(table) => {
                let pair = |(key, item): (&Spanned<_>, &Spanned<DeValue<'d>>)| {
                    let key: &std::borrow::Cow<'_, str> = key.get_ref();
                    let token = key.replace('~', "~0").replace('/', "~1");
                    (key.to_string(), self.json(item, format!("{pointer}/{token}"), positions))
                };
                Value::Object(table.iter().map(pair).collect())
            }
        };
        positions.push((pointer, self.document.position(value.span().start)));
        json
    }
}

impl Drop for Table<'_, '_> {
    fn drop(&mut self) {
        let asked = self.asked.take();
        for (key, _) in self.table.iter().filter(|(it, _)| !asked.contains(&**it.get_ref())) {
            let name = self.name(key.get_ref());
            let message = match nearest(key.get_ref(), asked.iter().map(String::as_str)) {
                Some(meant) => format!("unknown key `{name}`: did you mean `{meant}`?"),
                None => {
                    let known: Vec<_> = asked.iter().map(|it| format!("`{it}`")).collect();
                    format!("unknown key `{name}`; here stand {}", known.join(", "))
                }
            };
            self.document.problem(key.span(), message);
        }
    }
}

/// `500ms`, `15s`, `5m`, `2h`, `30d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration such as `500ms`, `15s`, `5m`, `2h` or `30d`");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let count: u64 = count.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    match count.checked_mul(unit_ms).map(Duration::from_millis) {
        Some(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err(format!("`{text}` is more than ten years")),
    }
}

/// A duration as a file has it, in the largest unit that it is a whole number of.
pub(crate) fn duration_text(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    match units.iter().find(|(_, unit_ms)| ms >= *unit_ms && ms.is_multiple_of(*unit_ms)) {
        Some((unit, unit_ms)) => format!("{}{unit}", ms / unit_ms),
        None => format!("{ms}ms"),
    }
}

/// Ten years: what is longer is a mistake.
const DURATION_MAX: Duration = Duration::from_hours(10 * 365 * 24);

/// The name that was probably meant: at most a third of it is different.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known
        .map(|it| (distance(name, it), it))
        .filter(|(distance, it)| distance * 3 <= it.len().max(3))
        .min()
        .map(|(_, it)| it)
}

/// How many letters are wrong, missing, too many or swapped with their neighbour
/// (optimal string alignment), in bytes: the names are ASCII and short.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (&a.as_bytes()[..a.len().min(64)], b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_hours(2)));
        for nonsense in ["", "5", "s", "-5s", "1.5s", "5 s", "99999999999999999999s", "9999999999d"]
        {
            assert!(parse_duration(nonsense).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["timeout", "concurrency", "rate_limit"];
        assert_eq!(nearest("timout", known.into_iter()), Some("timeout"));
        assert_eq!(nearest("rate-limit", known.into_iter()), Some("rate_limit"));
        assert_eq!(nearest("timeuot", known.into_iter()), Some("timeout"));
        assert_eq!(nearest("kye", ["key"].into_iter()), Some("key"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }
}
