//! Plugins written by hand, as WebAssembly text: what no SDK would build. A guest
//! begins as one that does its part and nothing else; a test says what is
//! different about it.

use std::fmt::Write as _;
use std::fs;

use wit_component::StringEncoding;
use wit_parser::Resolve;

use super::{files, root};

/// A core module with a component type, of one role.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    role: &'static str,
    version: String,
    schema: String,
    secrets: [u32; 2],
    memory: String,
    imports: String,
    /// Functions, data, whatever a module may have.
    more: String,
    describe: String,
    configure: String,
    call: String,
    realloc: String,
    /// What it takes the interfaces for.
    wit: Vec<(String, String)>,
}

/// Where a role's function finds and leaves things in the guest's memory.
pub(crate) const RESULT: u32 = 2048;
/// Room for what a test puts there.
pub(crate) const ROOM: u32 = 8192;

impl Guest {
    pub(crate) fn new(role: &'static str) -> Self {
        let resource = match role {
            "filter" | "transform" => "events@0.1.0\" \"[resource-drop]event",
            "auth" => "requests@0.1.0\" \"[resource-drop]outgoing",
            _ => "requests@0.1.0\" \"[resource-drop]inbound",
        };
        let drop = format!("(import \"plugpost:plugin/{resource}\" (func $drop (param i32)))");
        let call = format!("(call $drop (local.get 0)) (i32.const {RESULT})");
        // Rules are of no call, so there is no handle.
        let (imports, call) = match role {
            "auth-rules" => (String::new(), format!("i32.const {RESULT}")),
            _ => (drop, call),
        };
        Self {
            role,
            version: "1.0.0".into(),
            schema: "{}".into(),
            secrets: [0, 0],
            memory: "(memory (export \"memory\") 1)".into(),
            imports,
            more: String::new(),
            describe: "i32.const 1024".into(),
            configure: "i32.const 1100".into(),
            call,
            realloc: "(local $at i32) (local.set $at (global.get $free)) \
                      (global.set $free (i32.add (local.get $at) (local.get 3))) (local.get $at)"
                .into(),
            wit: Vec::new(),
        }
    }

    pub(crate) fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    pub(crate) fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// The list of secrets: where it lies and how many it has.
    pub(crate) fn secrets(mut self, at: u32, count: u32) -> Self {
        self.secrets = [at, count];
        self
    }

    pub(crate) fn memory(mut self, declaration: impl Into<String>) -> Self {
        self.memory = declaration.into();
        self
    }

    pub(crate) fn import(mut self, interface: &str, function: &str, signature: &str) -> Self {
        let _ = write!(self.imports, "(import \"{interface}\" \"{function}\" (func {signature}))");
        self
    }

    pub(crate) fn more(mut self, text: impl AsRef<str>) -> Self {
        self.more += text.as_ref();
        self
    }

    pub(crate) fn describe(mut self, body: impl Into<String>) -> Self {
        self.describe = body.into();
        self
    }

    pub(crate) fn configure(mut self, body: impl Into<String>) -> Self {
        self.configure = body.into();
        self
    }

    /// The role's function; `local 0` is the handle, and `$drop` drops it.
    pub(crate) fn call(mut self, body: impl Into<String>) -> Self {
        self.call = body.into();
        self
    }

    pub(crate) fn realloc(mut self, body: impl Into<String>) -> Self {
        self.realloc = body.into();
        self
    }

    /// Believe that this stands in `wit/`.
    pub(crate) fn wit(mut self, stands: &str, believed: &str) -> Self {
        self.wit.push((stands.into(), believed.into()));
        self
    }

    /// The file.
    pub(crate) fn build(&self) -> Vec<u8> {
        let Self { role, memory, imports, more, describe, configure, call, realloc, .. } = self;
        let name = "guest";
        let record = [
            (256, name.len()),
            (512, self.version.len()),
            (256, name.len()),
            (16_384, self.schema.len()),
        ];
        let record = record.iter().flat_map(|&(at, length)| [at, length as u32]);
        let record: Vec<u32> = record.chain(self.secrets).chain([0; 4]).collect();
        let data = [
            text(256, name),
            text(512, &self.version),
            text(16_384, &self.schema),
            words(1024, &record),
        ];
        let (function, parameter) = match *role {
            "source" => ("receive", "(param i32)"),
            "filter" => ("accept", "(param i32)"),
            "transform" => ("apply", "(param i32)"),
            "auth-rules" => ("rules", ""),
            _ => ("sign", "(param i32)"),
        };
        let export = |interface: &str, function: &str| {
            format!("(export \"plugpost:plugin/{interface}@0.1.0#{function}\")")
        };
        let module = format!(
            "(module {imports} {memory} (global $free (mut i32) (i32.const 32768))
               (func $realloc (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) {realloc})
               (func $describe {} (result i32) {describe})
               (func $configure {} (param i32 i32) (result i32) {configure})
               (func $call {} {parameter} (result i32) {call})
               {} {more})",
            export("plugin", "describe"),
            export("plugin", "configure"),
            export(role, function),
            data.concat(),
        );
        let mut wit: String = files(&root().join("wit"), "wit")
            .iter()
            .map(|it| fs::read_to_string(it).expect("a text"))
            // The package says its name before anything else.
            .fold(String::new(), |all, it| match it.starts_with("package") {
                true => it + &all,
                false => all + &it,
            });
        let _ = write!(wit, "world guest {{ include base; include {role}-role; }}");
        let mut module = module;
        for (stands, believed) in &self.wit {
            assert!(wit.contains(stands), "{stands} does not stand in wit/");
            wit = wit.replace(stands, believed);
            if stands.starts_with("package") {
                let version = |it: &str| it.split_once('@').expect("a version").1.replace(';', "");
                module = module
                    .replace(&format!("@{}", version(stands)), &format!("@{}", version(believed)));
            }
        }
        typed(&module, &wit)
    }
}

/// A core module that is the world `guest` of these interfaces.
pub(crate) fn typed(module: &str, wit: &str) -> Vec<u8> {
    let mut bytes = wat::parse_str(module).unwrap_or_else(|it| panic!("{it}: {module:.2000}"));
    let mut resolve = Resolve::default();
    let package = resolve.push_str("guest.wit", wit).unwrap_or_else(|it| panic!("{it:#}"));
    let world = resolve.select_world(&[package], Some("guest")).expect("it stands there");
    wit_component::embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)
        .expect("a module");
    bytes
}

/// Numbers in the guest's memory.
pub(crate) fn words(at: u32, words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|it| it.to_le_bytes()).collect();
    data(at, &bytes)
}

/// A text in the guest's memory.
pub(crate) fn text(at: u32, text: &str) -> String {
    data(at, text.as_bytes())
}

pub(crate) fn data(at: u32, bytes: &[u8]) -> String {
    let escaped = bytes.iter().fold(String::new(), |mut all, it| {
        let _ = write!(all, "\\{it:02x}");
        all
    });
    format!("(data (i32.const {at}) \"{escaped}\")")
}

/// A header with a text, as a record of the interfaces: 28 bytes.
pub(crate) fn header(name: (u32, u32), value: (u32, u32)) -> [u32; 7] {
    [name.0, name.1, 0, value.0, value.1, 0, 0]
}

/// A header with a secret.
pub(crate) fn secret_header(name: (u32, u32), secret: (u32, u32)) -> [u32; 7] {
    [name.0, name.1, 1, 0, 0, secret.0, secret.1]
}
