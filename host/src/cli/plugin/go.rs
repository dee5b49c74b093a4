//! What `go build` gives becomes a component: the type that its exports say, and
//! the adapter between the WASI that Go imports and that of components.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as ADAPTER_NAME,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A core module and the folder with the contract make a component.
pub(super) fn component(mut module: Vec<u8>, wit: &Path) -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).with_context(|| wit.display().to_string())?;
    let exports = exports(&module)?;
    // Each role has a world of its own, by its name.
    let mut includes = String::new();
    for world in resolve.packages[package].worlds.keys() {
        let Some(role) = world.strip_suffix("-role") else { continue };
        if exports.iter().any(|it| it.starts_with(&format!("plugpost:plugin/{role}@"))) {
            includes +=
                &format!("include plugpost:plugin/{world}@{};\n", version(&resolve, package));
        }
    }
    ensure!(!includes.is_empty(), "it exports no role of {}", wit.display());
    let base = format!("include plugpost:plugin/base@{};", version(&resolve, package));
    let own = format!("package plugpost:built;\nworld built {{\n{base}\n{includes}}}\n");
    let built = resolve.push_str("built.wit", &own)?;
    let world = resolve.select_world(&[built], None)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)?
        .adapter(ADAPTER_NAME, ADAPTER)?
        .encode()
        .context("what Go built does not fit wit/: are its bindings made from it?")
}

fn version(resolve: &Resolve, package: wit_parser::PackageId) -> String {
    let version = resolve.packages[package].name.version.as_ref();
    version.map(ToString::to_string).unwrap_or_default()
}

fn exports(module: &[u8]) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ExportSection(section) = payload? {
            for export in section {
                names.push(export?.name.to_owned());
            }
        }
    }
    Ok(names)
}

/// Turn the core module in a file into a component, in place.
pub(super) fn encode(file: &Path, wit: &Path) -> anyhow::Result<()> {
    let module = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    fs::write(file, component(module, wit)?).with_context(|| format!("writing {}", file.display()))
}
