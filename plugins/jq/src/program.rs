//! A jq program: compiled once, run for each event. It sees its input and
//! `$event`, and nothing else: no clock, no environment, no other input.

use jaq_core::data::JustLut;
use jaq_core::load::lex::Expect as Unclosed;
use jaq_core::load::parse::Def;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::{Fun, bome, run, v};
use jaq_core::path::Opt;
use jaq_core::{Compiler, Ctx, Exn, Filter, ValT as _, Vars, unwrap_valr};
use jaq_json::{Error, Val, ValR};
use plugpost_plugin::excerpt::point_at;

use crate::value::string_of;

type Data = JustLut<Val>;

/// A compiled program.
pub(crate) struct Program(Filter<Data>);

/// Why a program did not yield one value.
#[derive(Debug, PartialEq)]
pub(crate) enum Ended {
    /// It yields nothing.
    Nothing,
    /// It yields more than one value.
    Several,
    /// It raised an error.
    Error(String),
}

/// jq's names that no plugin can have, with what to write instead.
const REFUSED: [(&[&str], &str); 4] = [
    (
        &["now", "localtime", "strflocaltime"],
        "a plugin has no clock and no time zone: $event.time is the event's time, gmtime and strftime are in UTC",
    ),
    (&["env", "$ENV"], "a plugin sees no environment"),
    (&["input", "inputs", "input_filename", "input_line_number"], "there is one input: write ."),
    (
        &["debug", "stderr", "halt", "halt_error"],
        "a plugin has no terminal and does not halt: error(\"…\") ends a delivery with a message",
    ),
];

/// jaq removes a key by moving the last one into its place. These keep the order.
const OWN_DEFINITIONS: &str = "
def delpaths($paths): delete_paths($paths);
def del(f): delpaths([path(f)]);
";
const REPLACED: [&str; 2] = ["del", "delpaths"];

impl Program {
    /// Compile, or say what is wrong and where.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let defs = defs.filter(|it| !is_refused(it.name) && !REPLACED.contains(&it.name));
        let funs = jaq_core::funs::<Data>().chain(jaq_std::funs()).chain(jaq_json::funs());
        let funs = funs.filter(|(name, ..)| !is_refused(name)).chain([delete_paths()]);

        let arena = Arena::default();
        let program = File { code: text, path: () };
        let modules = Loader::new(defs.chain(own_definitions()))
            .load(&arena, program)
            .map_err(|errors| first_of(&errors, |error| tell_load_error(text, error)))?;
        let filter = Compiler::default()
            .with_funs(funs)
            .with_global_vars(["$event"])
            .compile(modules)
            .map_err(|errors| {
                first_of(&errors, |errors| {
                    let (name, kind) = errors.first()?;
                    let what = REFUSED.iter().find(|(names, _)| names.contains(name)).map_or_else(
                        || format!("there is no {} {name}", kind.as_str()),
                        |(_, why)| format!("{name} is not there: {why}"),
                    );
                    Some(point_at(text, load::span(text, name).start, &what))
                })
            })?;
        Ok(Self(filter))
    }

    /// The one value that the program yields.
    pub(crate) fn run(&self, input: Val, event: Val) -> Result<Val, Ended> {
        let context = Ctx::<Data>::new(&self.0.lut, Vars::new([event]));
        let mut values = self.0.id.run((context, input)).map(unwrap_valr);
        let mut next = || values.next().transpose().map_err(|it| Ended::Error(message(it)));
        let Some(value) = next()? else { return Err(Ended::Nothing) };
        match next()? {
            None => Ok(value),
            Some(_) => Err(Ended::Several),
        }
    }
}

/// What the program said with `error("…")`, or what jaq says.
fn message(error: Error) -> String {
    let value = error.into_val();
    string_of(&value).map_or_else(|_| value.to_string(), str::to_owned)
}

fn own_definitions() -> Vec<Def<&'static str>> {
    load::parse(OWN_DEFINITIONS, |parser| parser.defs()).unwrap_or_default()
}

fn is_refused(name: &str) -> bool {
    REFUSED.iter().any(|(names, _)| names.contains(&name))
}

/// The first of jaq's errors, told; a program that is wrong in many places is
/// looked at again.
fn first_of<C, P, E>(errors: &[(File<C, P>, E)], tell: impl Fn(&E) -> Option<String>) -> String {
    let told = errors.iter().find_map(|(_, error)| tell(error));
    told.unwrap_or_else(|| "is not a jq program".into())
}

fn tell_load_error(text: &str, error: &load::Error<&str>) -> Option<String> {
    match error {
        load::Error::Io(errors) => {
            let (path, _) = errors.first()?;
            Some(point_at(text, load::span(text, path).start, "a plugin reads no files"))
        }
        load::Error::Lex(errors) => {
            let (expected, found) = errors.first()?;
            // What is not closed is told by where it opens; where it should close is the end.
            let (place, what) = match expected {
                Unclosed::Delim(open) => (*open, format!("there is no {}", expected.as_str())),
                _ => (*found, format!("expected {}", expected.as_str())),
            };
            Some(point_at(text, load::span(text, place).start, &what))
        }
        load::Error::Parse(errors) => {
            let (expected, found) = errors.first()?;
            let what = match expected.as_str() {
                "nothing" => "nothing can follow here".to_owned(),
                expected => format!("expected {expected}"),
            };
            Some(point_at(text, load::span(text, found).start, &what))
        }
    }
}

fn delete_paths() -> Fun<Data> {
    run(("delete_paths", v(1), |mut cv| bome(delete_all(cv.1, cv.0.pop_var()))))
}

/// The value without what lies at the paths, the last first, so that a place in
/// an array stays the same until its turn.
fn delete_all(value: Val, paths: Val) -> ValR {
    let mut paths: Vec<_> = paths.values().collect::<Result<_, _>>()?;
    paths.sort();
    paths.into_iter().rev().try_fold(value, |value, path| {
        let path: Vec<_> = path.values().collect::<Result<_, _>>()?;
        delete(value, &path)
    })
}

fn delete(value: Val, path: &[Val]) -> ValR {
    let Some((key, rest)) = path.split_first() else { return Ok(Val::Null) };
    match value {
        Val::Null => Ok(Val::Null),
        Val::Obj(mut members) => {
            let own = jaq_json::Rc::make_mut(&mut members);
            if rest.is_empty() {
                own.shift_remove(key);
            } else if let Some(member) = own.get_mut(key) {
                *member = delete(std::mem::take(member), rest)?;
            }
            Ok(Val::Obj(members))
        }
        // An array, of which a part may lie out of bounds: then nothing lies there.
        other => {
            let kept = |it| (!rest.is_empty()).then(|| delete(it, rest).map_err(Exn::from));
            let deleted = other.map_index(key, Opt::Optional, |it| kept(it).into_iter());
            let no_error = |_| Error::str("a path led nowhere");
            deleted.map_err(|exception| exception.get_err().unwrap_or_else(no_error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{read, write};

    fn run(program: &str, input: &str) -> Result<String, Ended> {
        let program = Program::compile(program).map_err(Ended::Error)?;
        let event = read(r#"{"id":"evt_1","type":"order.created"}"#).expect("JSON");
        let value = program.run(read(input).expect("the test's own JSON"), event)?;
        write(&value).map_err(Ended::Error)
    }

    fn check(program: &str, input: &str, output: &str) {
        assert_eq!(run(program, input).as_deref(), Ok(output), "{program}");
    }

    fn problem(program: &str) -> String {
        Program::compile(program).err().unwrap_or_else(|| panic!("{program} compiles"))
    }

    #[test]
    fn what_passes_through_keeps_digits_and_order() {
        let input =
            r#"{"z":1.10,"a":{"n":1234567890123456789012345678901234567890,"e":1E5},"m":-0}"#;
        check(".", input, input);
        check(
            "{a: .a, z, t: $event.type}",
            input,
            r#"{"a":{"n":1234567890123456789012345678901234567890,"e":1E5},"z":1.10,"t":"order.created"}"#,
        );
        check(".b = 1.0", r#"{"z":1.10,"a":2}"#, r#"{"z":1.10,"a":2,"b":1.0}"#);
        check(
            "[.z, .z + 0, .a.n + 1]",
            input,
            "[1.10,1.1,1234567890123456789012345678901234567891]",
        );
    }

    #[test]
    fn deleting_keeps_the_order_of_what_stays() {
        let input = r#"{"a":1,"b":2,"c":{"d":3,"e":4,"f":5},"g":[0,1,2,3]}"#;
        check("del(.a)", input, r#"{"b":2,"c":{"d":3,"e":4,"f":5},"g":[0,1,2,3]}"#);
        check("del(.a, .c.d, .g[0, 2])", input, r#"{"b":2,"c":{"e":4,"f":5},"g":[1,3]}"#);
        check("del(.nothing, .g[9])", input, input);
        check("del(.g[1:3], .b)", input, r#"{"a":1,"c":{"d":3,"e":4,"f":5},"g":[0,3]}"#);
        check("del(.[])", input, "{}");
        check("del(.)", input, "null");
        check(r#"delpaths([["c","f"],["a"]]) | .c"#, input, r#"{"d":3,"e":4}"#);
        check("del(.g[] | select(. > 1)) | .g", input, "[0,1]");
        check(r#"with_entries(select(.key != "a")) | keys_unsorted"#, input, r#"["b","c","g"]"#);
        // jaq's own way, told in the README.
        check(".a |= empty | keys_unsorted", input, r#"["g","b","c"]"#);
    }

    #[test]
    fn one_value_is_what_a_program_yields() {
        assert_eq!(run("empty", "1"), Err(Ended::Nothing));
        assert_eq!(run(".[]", "[1,2]"), Err(Ended::Several));
        check(".[]", "[1]", "1");
        let error = |message: &str| Err(Ended::Error(message.to_owned()));
        assert_eq!(run(r#"error("no customer")"#, "1"), error("no customer"));
        assert_eq!(run(".a.b", r#"{"a":1}"#), error(r#"cannot index 1 with "b""#));
        assert_eq!(run(r#"1, error("late")"#, "1"), error("late"));
    }

    #[test]
    fn a_syntax_error_is_told_with_its_place() {
        for (program, expected) in [
            ("", "line 1, column 1: expected term: ^"),
            (".a | )", "line 1, column 6: expected token: .a | ^)"),
            ("{a: .b,\n c: .d", "line 1, column 1: there is no closing brace: ^{a: .b,"),
            (".a |\n  { b: (1 }", "line 2, column 8: there is no closing parenthesis: { b: ^(1 }"),
            ("if . then 1", "line 1, column 12: expected else or end: if . then 1^"),
            (".a;", "line 1, column 3: nothing can follow here: .a^;"),
            ("\"a", "line 1, column 1: there is no closing quote: ^\"a"),
            (".a | 💣", "line 1, column 6: expected token: .a | ^💣"),
        ] {
            assert_eq!(problem(program), expected, "{program}");
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_its_place() {
        assert_eq!(problem(".a |\n foo(.b)"), "line 2, column 2: there is no filter foo: ^foo(.b)");
        assert_eq!(problem(". + $x"), "line 1, column 5: there is no variable $x: . + ^$x");
        assert_eq!(problem("map(1; 2)"), "line 1, column 1: there is no filter map: ^map(1; 2)");
    }

    #[test]
    fn clock_environment_and_other_inputs_are_refused() {
        for (names, why) in REFUSED {
            for name in names {
                let told = problem(&format!("[{name}]"));
                let expected = format!("line 1, column 2: {name} is not there: {why}: [^{name}]");
                assert_eq!(told, expected);
            }
        }
        for program in ["debug(.a)", "halt(1)", "halt_error(1)", "strflocaltime(\"%Y\")"] {
            assert!(problem(program).contains(" is not there: "), "{program}");
        }
        for program in ["import \"a\" as a; .", "include \"a\"; ."] {
            assert!(problem(program).contains("a plugin reads no files"), "{program}");
        }
    }

    #[test]
    fn what_json_does_not_have_is_an_error() {
        for program in ["1 / 0", "nan", "infinite", "[-infinite]", "{(\"a\" | tobytes): 1}"] {
            assert!(matches!(run(program, "1"), Err(Ended::Error(_))), "{program}");
        }
        check("\"+1.5\" | tonumber", "1", "1.5");
        check("[3 / 2, 6 / 2, 1e1000]", "1", "[1.5,3.0,1e1000]");
    }

    #[test]
    fn times_are_in_utc() {
        check("todate", "1777888800", "\"2026-05-04T10:00:00Z\"");
        check("fromdate", "\"2026-05-04T10:00:00Z\"", "1777888800");
        check("strftime(\"%d.%m.%Y\")", "4102444800", "\"01.01.2100\"");
    }

    #[test]
    fn the_library_is_there() {
        assert_eq!(own_definitions().len(), 2);
        let orders = r#"[{"n":3},{"n":1},{"n":2}]"#;
        check("[.[] | select(.n > 1)] | sort_by(.n) | map(.n) | add", orders, "5");
        check("gsub(\"[aeiou]\"; \"*\") | ascii_upcase", "\"order\"", "\"*RD*R\"");
        check("[paths] | length", r#"{"a":[1,2]}"#, "3");
        check("[.a, .b] | @base64", r#"{"a":1,"b":2}"#, "\"WzEsMl0=\"");
    }
}
