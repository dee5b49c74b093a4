//! Copies of folders that lie in the repository, in places of their own.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{files, plugin, root};

/// Megabytes of code: what loads them without need takes seconds longer each time.
const LARGE: [&str; 2] = ["cel", "jq"];

/// A copy of a hub folder, with the plugins that are built in its `plugins/`, all
/// but the large ones.
pub(crate) fn copy_with_plugins(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_tree(folder, copy.path());
    let plugins = copy.path().join("plugins");
    fs::create_dir_all(&plugins).expect("a folder");
    let is_large =
        |it: &PathBuf| LARGE.iter().any(|name| it.file_stem().is_some_and(|it| it == *name));
    for plugin in bundled_plugins().into_iter().filter(|it| !is_large(it)) {
        let name = plugin.file_name().expect("a name");
        fs::copy(&plugin, plugins.join(name)).expect("the plugin can be copied");
    }
    copy
}

/// A copy of a hub folder, with these plugins.
pub(crate) fn copy_with(folder: &Path, plugins: &[&str]) -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_tree(folder, copy.path());
    let into = copy.path().join("plugins");
    fs::create_dir_all(&into).expect("a folder");
    for name in plugins {
        let to = into.join(name).with_extension("wasm");
        fs::copy(plugin(name), to).expect("the plugin can be copied");
    }
    copy
}

/// The plugins that come with the engine, built; not those of the tests.
pub(crate) fn bundled_plugins() -> Vec<PathBuf> {
    let mut built = files(&root().join("target/plugins"), "wasm");
    built.retain(|it| root().join("plugins").join(it.file_stem().expect("a name")).is_dir());
    assert!(built.len() >= 11, "run `make plugins`: {built:?}");
    built
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).unwrap_or_else(|it| panic!("{}: {it}", from.display())) {
        let path = entry.expect("a readable entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy_tree(&path, &target),
            false => drop(fs::copy(&path, &target).expect("the file can be copied")),
        }
    }
}
