//! Copies of folders that lie in the repository, in places of their own.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{files, root};

/// A copy of a hub folder, with every plugin that is built in its `plugins/`.
pub(crate) fn copy_with_plugins(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_tree(folder, copy.path());
    let plugins = copy.path().join("plugins");
    fs::create_dir_all(&plugins).expect("a folder");
    for plugin in bundled_plugins() {
        let name = plugin.file_name().expect("a name");
        fs::copy(&plugin, plugins.join(name)).expect("the plugin can be copied");
    }
    copy
}

/// The plugins that come with the engine, built; not those of the tests.
pub(crate) fn bundled_plugins() -> Vec<PathBuf> {
    let mut built = files(&root().join("target/plugins"), "wasm");
    built.retain(|it| root().join("plugins").join(it.file_stem().expect("a name")).is_dir());
    assert!(built.len() >= 7, "run `make plugins`: {built:?}");
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
