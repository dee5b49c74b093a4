//! What a file may hold, counted before anything is made of it. The compiler has
//! limits of its own, but they are on time and memory: they cost what they limit,
//! and cannot say what was too much. This is one pass over the bytes.

use wasmparser::{Encoding, Parser, Payload};

use super::LoadError;

/// Functions, in all modules together: a JavaScript component has 13,000, a Python one too.
const FUNCTIONS_MAX: u64 = 50_000;
/// The code of one function; compiling takes a hundred times its size. The interpreter
/// loop of Python has 430 kB.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// Types, in all modules and components together.
const TYPES_MAX: u64 = 20_000;
/// What comes in and goes out, everywhere, and what is passed on in between.
const NAMES_MAX: u64 = 100_000;
/// Core modules. Python brings one for each native library.
const MODULES_MAX: u64 = 256;
/// Components in a component.
const COMPONENTS_MAX: u64 = 64;
/// One in the other.
const DEPTH_MAX: u64 = 8;
/// Instances of modules and components, those that only pass names on too.
const INSTANCES_MAX: u64 = 2_000;

#[derive(Default)]
struct Counts {
    functions: u64,
    types: u64,
    names: u64,
    modules: u64,
    components: u64,
    instances: u64,
    depth: u64,
}

/// Component or core module? Every payload is read, nested ones too: bytes that
/// are not WebAssembly are found here with their place, and what is too much with
/// its number.
pub(super) fn check(bytes: &[u8]) -> Result<Encoding, LoadError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm("it does not begin with \\0asm".into()));
    }
    let mut kind = None;
    let mut counts = Counts::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| LoadError::NotWasm(error.to_string()))?;
        if let Payload::Version { encoding, .. } = &payload {
            kind.get_or_insert(*encoding);
        }
        counts.add(&payload)?;
    }
    kind.ok_or_else(|| LoadError::NotWasm("the file is empty".into()))
}

impl Counts {
    fn add(&mut self, payload: &Payload<'_>) -> Result<(), LoadError> {
        use Payload as P;
        // A section says how many it has; its bytes are read later, by what compiles them.
        match payload {
            P::FunctionSection(it) => count(&mut self.functions, it.count(), FUNCTIONS),
            P::TypeSection(it) => count(&mut self.types, it.count(), TYPES),
            P::CoreTypeSection(it) => count(&mut self.types, it.count(), TYPES),
            P::ComponentTypeSection(it) => count(&mut self.types, it.count(), TYPES),
            P::ImportSection(it) => count(&mut self.names, it.count(), NAMES),
            P::ExportSection(it) => count(&mut self.names, it.count(), NAMES),
            P::ComponentImportSection(it) => count(&mut self.names, it.count(), NAMES),
            P::ComponentExportSection(it) => count(&mut self.names, it.count(), NAMES),
            P::ComponentAliasSection(it) => count(&mut self.names, it.count(), NAMES),
            P::ComponentCanonicalSection(it) => count(&mut self.names, it.count(), NAMES),
            P::InstanceSection(it) => count(&mut self.instances, it.count(), INSTANCES),
            P::ComponentInstanceSection(it) => count(&mut self.instances, it.count(), INSTANCES),
            P::CodeSectionEntry(body) => {
                let range = body.range();
                count_to(&mut 0, (range.end - range.start) as u64, BODY)
            }
            P::ModuleSection { .. } => {
                self.depth += 1;
                count(&mut self.modules, 1, MODULES)
            }
            P::ComponentSection { .. } => {
                count(&mut self.depth, 1, DEPTH)?;
                count(&mut self.components, 1, COMPONENTS)
            }
            P::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What is counted, and how many there may be.
type Bound = (&'static str, u64);

const FUNCTIONS: Bound = ("functions", FUNCTIONS_MAX);
const BODY: Bound = ("bytes in one function", BODY_BYTES_MAX);
const TYPES: Bound = ("types", TYPES_MAX);
const NAMES: Bound = ("imports, exports and aliases", NAMES_MAX);
const MODULES: Bound = ("modules", MODULES_MAX);
const COMPONENTS: Bound = ("components within", COMPONENTS_MAX);
const DEPTH: Bound = ("components one in the other", DEPTH_MAX);
const INSTANCES: Bound = ("instances", INSTANCES_MAX);

fn count(counted: &mut u64, more: u32, bound: Bound) -> Result<(), LoadError> {
    count_to(counted, more.into(), bound)
}

fn count_to(counted: &mut u64, more: u64, (what, max): Bound) -> Result<(), LoadError> {
    *counted += more;
    match *counted > max {
        true => Err(LoadError::TooMuch { what, count: *counted, max }),
        false => Ok(()),
    }
}
