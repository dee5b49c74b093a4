//! The example hubs do what they say: their own cases hold, and find what does not.

use std::fs;

use tempfile::TempDir;

use crate::support::folder::copy_with;
use crate::support::{Ran, files, plugpost, root};

/// Each hub with cases, and the plugins it uses.
const HUBS: [(&str, &[&str], usize); 2] = [
    ("integrators-hub", &["cel", "jq", "nue"], 4),
    ("senders-hub", &["b2b-ninja", "bigcommerce-b2b", "buildr", "nue", "ordermentum"], 5),
];

#[test]
fn the_cases_of_each_example_hold() {
    for (hub, plugins, cases) in HUBS {
        let ran = test(&copy_with(&root().join("examples").join(hub), plugins));
        assert_eq!(ran.status, Some(0), "{hub}: {ran:?}");
        assert!(ran.stdout.ends_with(&format!("{cases} passed, 0 failed\n")), "{hub}: {ran:?}");
    }
}

#[test]
fn every_route_of_an_example_has_a_case() {
    for (hub, ..) in HUBS {
        let hub = root().join("examples").join(hub);
        let cases: String = files(&hub.join("tests"), "json")
            .iter()
            .map(|it| fs::read_to_string(it).expect("a case"))
            .collect();
        for route in files(&hub.join("routes"), "toml") {
            let name = route.file_stem().expect("a name").to_string_lossy();
            assert!(cases.contains(&format!("\"{name}\": {{\n      \"request\"")), "{name}");
        }
    }
}

#[test]
fn a_change_of_an_example_is_found_by_its_cases() {
    let (hub, plugins, _) = HUBS[0];
    let folder = copy_with(&root().join("examples").join(hub), plugins);
    let route = folder.path().join("routes/invoice-to-accounting.toml");
    let text = fs::read_to_string(&route).expect("the route");
    let other = text.replace("\"void\"", "\"closed\"");
    assert_ne!(text, other);
    fs::write(&route, other).expect("a file");
    let ran = test(&folder);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("+  \"status\": \"closed\""), "{ran:?}");
}

fn test(folder: &TempDir) -> Ran {
    plugpost(["test".as_ref(), folder.path().as_os_str()])
}
