//! The README and the pages in docs/ do what they say: their files make a hub, their
//! links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::engine::command;
use crate::support::folder::copy_with_plugins;
use crate::support::{Ran, files, root};

/// A file as a block of the README shows it.
#[derive(Debug)]
struct Shown {
    path: String,
    text: String,
}

#[test]
fn the_files_that_are_shown_make_a_hub() {
    let files: Vec<_> = pages().iter().flat_map(|(_, text)| files_shown(text)).collect();
    assert!(files.len() > 4, "{files:?}");
    let ran = check(&files);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    for file in &files {
        let (_, name) = file.path.split_once('/').expect("it lies in a folder");
        let name = name.strip_suffix(".toml").expect("a file of TOML");
        assert!(ran.stdout.contains(&format!(" {name} ")), "{name} is not in {}", ran.stdout);
    }
}

#[test]
fn a_wrong_file_in_the_readme_is_found() {
    let wrong = readme().replace("timeout = \"10s\"", "timeout = \"10 s\"");
    assert_ne!(wrong, readme());
    let ran = check(&files_shown(&wrong));
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("`10 s` is not a duration"), "{ran:?}");
}

#[test]
fn every_path_that_is_linked_to_exists() {
    assert!(paths_linked(&readme()).len() > 5);
    for (page, text) in pages() {
        for path in paths_linked(&text) {
            let target = page.parent().expect("a folder").join(&path);
            assert!(target.exists(), "{} links to {path}, which is not there", page.display());
        }
    }
}

#[test]
fn paths_are_told_from_other_links() {
    let text = "[a](b/c) and [`d`](https://example.com/) [e](f.md#g) `x[0](y)` [h](#i)";
    assert_eq!(paths_linked(text), ["b/c", "f.md", "y"].map(String::from));
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("the README")
}

/// The README and everything in docs/.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = files(&root().join("docs"), "md");
    pages.push(root().join("README.md"));
    pages.into_iter().map(|it| (it.clone(), fs::read_to_string(it).expect("a page"))).collect()
}

/// Every block of TOML whose first line is a comment that begins with a path.
fn files_shown(text: &str) -> Vec<Shown> {
    let blocks = text.split("```toml\n").skip(1).filter_map(|it| it.split("```").next());
    let shown = blocks.filter_map(|text| {
        let first = text.lines().next()?.strip_prefix("# ")?;
        let path = first.split([':', ' ']).next()?;
        let is_path = ["sources/", "routes/"].iter().any(|it| path.starts_with(it));
        is_path.then(|| Shown { path: path.into(), text: text.into() })
    });
    shown.collect()
}

/// Check a hub of these files, with a token `erp` and a key in every variable they name.
fn check(files: &[Shown]) -> Ran {
    let empty = tempfile::tempdir().expect("a temporary folder");
    let folder: TempDir = copy_with_plugins(empty.path());
    let token =
        "[[token]]\nname = \"erp\"\nsecret = { file = \"erp.token\" }\nscopes = [\"ingest\"]\n";
    write(folder.path(), "plugpost.toml", token);
    write(folder.path(), "erp.token", "erp-0123456789-token");
    let mut variables = BTreeSet::new();
    for file in files {
        write(folder.path(), &file.path, &file.text);
        let named = file.text.split("env = \"").skip(1).filter_map(|it| it.split('"').next());
        variables.extend(named);
    }
    assert!(!variables.is_empty());
    let mut command = command(Path::new(env!("CARGO_BIN_EXE_plugpost")));
    command.arg("check").arg(folder.path());
    for name in variables {
        command.env(name, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
    }
    Ran::from(command.output().expect("the binary starts"))
}

fn write(folder: &Path, path: &str, text: &str) {
    let file = folder.join(path);
    fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    fs::write(file, text).expect("a file");
}

/// Where links lead that stay in the repository.
fn paths_linked(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|it| it.split(')').next());
    let paths = targets.filter(|it| !it.contains("://")).filter_map(|it| it.split('#').next());
    paths.filter(|it| !it.is_empty()).map(str::to_owned).collect()
}
