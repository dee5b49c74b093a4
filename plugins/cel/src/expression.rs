//! A CEL expression: compiled once, evaluated for each event.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use cel_rust::common::ast::{EntryExpr, Expr, IdedEntryExpr, IdedExpr};
use cel_rust::objects::{Key, Map};
use cel_rust::{Context, Env, ExecutionError, Program, Value, extensions};
use hifijson::SliceLexer;
use hifijson::token::Lex as _;
use hifijson::value::{Value as Json, parse_bounded};
use plugpost_plugin::excerpt::point_at;

/// What an expression can name.
pub(crate) const VARIABLES: [&str; 6] = ["data", "type", "source", "subject", "id", "attributes"];

/// Names of types, for `type(data.a) == string`.
const TYPES: [&str; 11] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "optional_type",
    "string",
    "type",
    "uint",
];

/// How deep values of the data may lie in one another: far below where the stack
/// would end.
const DEPTH_MAX: usize = 256;

/// A compiled expression.
pub(crate) struct Expression {
    program: Program,
    env: Arc<Env>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Ended {
    /// A field that is not there was asked for.
    Missing(String),
    /// Another value than true or false.
    NotBoolean(&'static str),
    /// Whatever else went wrong.
    Error(String),
}

impl Expression {
    /// Compile, or say what is wrong and where.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        let mut env = Env::stdlib().with_optional_support(true);
        env.add_extension(extensions::strings).map_err(|it| it.to_string())?;
        let program = env.compile(text).map_err(|errors| match errors.errors.first() {
            Some(error) => point_at(text, offset(text, error.pos), &in_short(&error.msg)),
            None => "is not a CEL expression".into(),
        })?;
        if let Some((id, name)) = unknown(program.expression(), &mut Vec::new()) {
            let at = program.source_info().offset_for(id).map_or(0, |(start, _)| start);
            let what = format!("there is no {name}, but {}", VARIABLES.join(", "));
            return Err(point_at(text, at as usize, &what));
        }
        Ok(Self { program, env: Arc::new(env) })
    }

    /// True or false for these values of the variables, in their order.
    pub(crate) fn holds(&self, values: [Value; VARIABLES.len()]) -> Result<bool, Ended> {
        let mut context = Context::with_env(self.env.clone());
        for (name, value) in VARIABLES.into_iter().zip(values) {
            context.add_variable_from_value(name, value);
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(Ended::NotBoolean(kind(&other))),
            Err(ExecutionError::NoSuchKey(name)) => Err(Ended::Missing(name.to_string())),
            Err(error) => Err(Ended::Error(one_line(&error.to_string()))),
        }
    }
}

/// JSON as CEL sees it, from text that the host has found to be well-formed.
/// Integers of 64 bits are int or uint, every other number is a double.
///
/// serde_json is not used: where numbers keep their digits, it takes objects
/// with a certain key for numbers, and a filter would see another event.
pub(crate) fn read(text: &str) -> Result<Value, String> {
    let mut lexer = SliceLexer::new(text.as_bytes());
    lexer
        .exactly_one(SliceLexer::ws_peek, |next, lexer| parse_bounded(DEPTH_MAX, next, lexer))
        .map(value)
        .map_err(|error| match error {
            hifijson::Error::Depth => format!("it is nested deeper than {DEPTH_MAX} levels"),
            other => other.to_string(),
        })
}

fn value(json: Json<&str, Cow<'_, str>>) -> Value {
    let text = |it: Cow<'_, str>| it.into_owned();
    match json {
        Json::Null => Value::Null,
        Json::Bool(it) => Value::Bool(it),
        Json::Number((digits, _)) => match (digits.parse(), digits.parse()) {
            (Ok(it), _) => Value::Int(it),
            (_, Ok(it)) => Value::UInt(it),
            _ => Value::Float(digits.parse().unwrap_or(f64::NAN)),
        },
        Json::String(it) => Value::String(text(it).into()),
        Json::Array(items) => Value::List(Arc::new(items.into_iter().map(value).collect())),
        Json::Object(members) => map(members.into_iter().map(|(name, it)| (text(name), value(it)))),
    }
}

/// A map with texts as keys.
pub(crate) fn map(members: impl Iterator<Item = (String, Value)>) -> Value {
    let members = members.map(|(name, value)| (Key::String(name.into()), value));
    Value::Map(Map { map: Arc::new(members.collect::<HashMap<_, _>>()) })
}

/// The byte at a line and a column, both counted from 1.
fn offset(text: &str, (line, column): (isize, isize)) -> usize {
    let from_one = |it: isize| usize::try_from(it - 1).unwrap_or_default();
    let mut lines = text.split_inclusive('\n');
    let before: usize = lines.by_ref().take(from_one(line)).map(str::len).sum();
    let rest = lines.next().unwrap_or_default();
    before + rest.char_indices().nth(from_one(column)).map_or(rest.len(), |(at, _)| at)
}

/// The first name, with the id of its place, that is neither a variable nor a
/// type nor one that the expression makes itself: `x` in `data.all(x, x > 0)`.
fn unknown<'e>(expression: &'e IdedExpr, own: &mut Vec<&'e str>) -> Option<(u64, &'e str)> {
    let entry = |entry: &'e IdedEntryExpr| match &entry.expr {
        EntryExpr::StructField(it) => vec![&it.value],
        EntryExpr::MapEntry(it) => vec![&it.key, &it.value],
    };
    let parts: Vec<&IdedExpr> = match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) => Vec::new(),
        Expr::Ident(name) => {
            let name = name.as_str();
            let is_known = name.starts_with('@')
                || VARIABLES.contains(&name)
                || TYPES.contains(&name)
                || own.contains(&name);
            return (!is_known).then_some((expression.id, name));
        }
        Expr::Call(it) => it.target.as_deref().into_iter().chain(&it.args).collect(),
        Expr::Select(it) => vec![&*it.operand],
        Expr::List(it) => it.elements.iter().collect(),
        Expr::Map(it) => it.entries.iter().flat_map(entry).collect(),
        Expr::Struct(it) => it.entries.iter().flat_map(entry).collect(),
        Expr::Comprehension(it) => {
            let outside = [&it.iter_range, &it.accu_init];
            if let Some(found) = outside.into_iter().find_map(|it| unknown(it, own)) {
                return Some(found);
            }
            let before = own.len();
            own.extend([it.iter_var.as_str(), it.accu_var.as_str()]);
            own.extend(it.iter_var2.as_deref());
            let inside = [&it.loop_cond, &it.loop_step, &it.result];
            let found = inside.into_iter().find_map(|it| unknown(it, own));
            own.truncate(before);
            return found;
        }
    };
    parts.into_iter().find_map(|it| unknown(it, own))
}

/// What the parser says, without its list of everything that could have followed.
fn in_short(message: &str) -> String {
    let message = one_line(message).replace("'<EOF>'", "the end");
    // An error in an error, printed as Rust prints it.
    if let Some((inner, _)) = message.split_once("msg: \"").and_then(|(_, it)| it.split_once('"')) {
        return inner.to_lowercase();
    }
    let message = message.strip_prefix("Syntax error: ").unwrap_or(&message);
    message.split(" expecting {").next().unwrap_or(message).to_owned()
}

fn one_line(message: &str) -> String {
    message.trim().replace('\n', " ")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::String(_) => "a string",
        Value::Bytes(_) => "bytes",
        Value::Null => "null",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = r#"{"total":1.10,"count":3,"big":18446744073709551615,"none":null,"name":"Zoë ☕",
        "huge":1234567890123456789012345678901234567890,"lines":[{"n":2},{"n":0}],"a":{"b":{}}}"#;

    fn holds(expression: &str) -> Result<bool, Ended> {
        let data = read(DATA).expect("the test's own JSON");
        let text = |it: &str| Value::String(Arc::new(it.to_owned()));
        let attributes = map([("tenant".to_owned(), text("t1"))].into_iter());
        let values =
            [data, text("order.created"), text("erp"), Value::Null, text("evt_1"), attributes];
        Expression::compile(expression).map_err(Ended::Error)?.holds(values)
    }

    #[test]
    fn an_expression_holds_or_does_not() {
        for (expression, expected) in [
            ("data.total > 0", true),
            ("data.total > 1.1", false),
            ("data.count == 3 && data.count == 3.0", true),
            ("data.big > 1", true),
            ("data.huge > data.big", true),
            ("data.none == null", true),
            ("data.name.startsWith('Zoë')", true),
            ("data.name.matches('^Zo. .$')", true),
            ("data.name.lowerAscii() == 'zoë ☕'", true),
            ("size(data.lines) == 2 && data.lines.exists(it, it.n == 0)", true),
            ("data.lines.all(it, it.n > 0)", false),
            ("data.lines[1].n in [0, 1]", true),
            ("data['count'] % 2 == 1", true),
            ("type == 'order.created' && source == 'erp' && id == 'evt_1'", true),
            ("type.endsWith('.created')", true),
            ("subject == null", true),
            ("attributes.tenant == 't1'", true),
            ("has(data.total) && !has(data.no) && !has(data.a.b.c)", true),
            ("has(data.no) && data.no > 1", false),
            ("data.lines.map(x, x.n).filter(x, x > 1) == [2]", true),
            ("data.a.all(k, k == 'b')", true),
            ("type(data.count) == int && type(data.name) == string", true),
            ("{'a': data.count}['a'] == 3", true),
            ("data.?no.orValue(5) == 5", true),
        ] {
            assert_eq!(holds(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn a_missing_field_is_told_by_name() {
        for expression in
            ["data.no > 1", "data.a.no == 1", "attributes.no == 'a'", "data['no'] == 1"]
        {
            assert_eq!(holds(expression), Err(Ended::Missing("no".into())), "{expression}");
        }
    }

    #[test]
    fn only_true_and_false_are_answers() {
        for (expression, kind) in [
            ("1", "a number"),
            ("data.none", "null"),
            ("data", "a map"),
            ("data.lines", "a list"),
            ("'true'", "a string"),
            ("b'a'", "bytes"),
        ] {
            assert_eq!(holds(expression), Err(Ended::NotBoolean(kind)), "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_calculated_is_an_error() {
        for expression in [
            "data.name > 1",
            "1 / 0 == 1",
            "9223372036854775807 + 1 > 0",
            "data.lines[9].n == 1",
            "data.name.matches('(')",
            "data.total.startsWith('1')",
        ] {
            assert!(
                matches!(holds(expression), Err(Ended::Error(_))),
                "{expression}: {:?}",
                holds(expression)
            );
        }
    }

    #[test]
    fn a_problem_is_told_with_its_place() {
        for (expression, expected) in [
            ("data.total >", "line 1, column 13: mismatched input the end: data.total >^"),
            ("data.total > )", "line 1, column 14: mismatched input ')': data.total > ^)"),
            ("data.\n total >> 1", "line 2, column 9: extraneous input '>': total >^> 1"),
            (
                "data.total > 1 &",
                "line 1, column 16: token recognition error at: '&': data.total > 1 ^&",
            ),
            ("'é' + § + 'a'", "line 1, column 7: token recognition error at: '§': 'é' + ^§ + 'a'"),
            ("'open", "line 1, column 1: token recognition error at: ''open': ^'open"),
            ("", "line 1, column 1: mismatched input the end: ^"),
        ] {
            assert_eq!(holds(expression), Err(Ended::Error(expected.into())), "{expression}");
        }
        let variables = VARIABLES.join(", ");
        for (expression, name, place, line) in [
            ("data.total > limit", "limit", "line 1, column 14", "data.total > ^limit"),
            ("'é' ==\n event.type", "event", "line 2, column 2", "^event.type"),
            ("[1].all(x, x > y)", "y", "line 1, column 16", "[1].all(x, x > ^y)"),
            ("[1].all(x, x > 0) && x", "x", "line 1, column 22", "[1].all(x, x > 0) && ^x"),
        ] {
            let told = format!("{place}: there is no {name}, but {variables}: {line}");
            assert_eq!(holds(expression), Err(Ended::Error(told)), "{expression}");
        }
    }

    #[test]
    fn data_is_read_as_it_is() {
        for text in ["[1,2.0,-0,18446744073709551615]", "{\"$serde_json::private::Number\":\"1\"}"]
        {
            assert!(read(text).is_ok(), "{text}");
        }
        assert!(matches!(read("{\"$serde_json::private::Number\":\"1\"}"), Ok(Value::Map(_))));
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(read(&nested(500_000)), Err("it is nested deeper than 256 levels".into()));
        assert!(read("\"\\ud800\"").is_err());
    }

    #[test]
    fn no_nesting_ends_the_stack() {
        for deep in ["(".repeat(5000), "[".repeat(5000), "{1:".repeat(5000), "-(".repeat(5000)] {
            let told = Expression::compile(&deep).err();
            assert!(told.is_some_and(|it| it.starts_with("line 1")), "{}", &deep[..9]);
        }
    }
}
