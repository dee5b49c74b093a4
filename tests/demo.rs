//! `plugpost demo`: the five platforms of the example, through a running engine,
//! to a receiver that believes nothing it has not checked itself.

use std::fs;
use std::net::TcpListener;

use tempfile::TempDir;

use crate::support::folder::copy_with_plugins;
use crate::support::{Ran, files, plugpost, root};

#[test]
fn the_demo_verifies_what_every_platform_sent() {
    let ran = demo(&example());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(lines(&ran, "  verified: "), 5, "{}", ran.stdout);
    assert_eq!(lines(&ran, "NOT VERIFIED"), 0, "{}", ran.stdout);
    assert!(ran.stdout.contains("5 of 5 deliveries arrived and were verified"), "{}", ran.stdout);
}

#[test]
fn the_demo_fails_when_a_receiver_has_another_secret() {
    let folder = example();
    let file = folder.path().join("demo/buildr.toml");
    let text = fs::read_to_string(&file).expect("a file");
    let other = text.replace("secrets/acme-buildr.key", "secrets/buildr.key");
    assert_ne!(text, other);
    fs::write(&file, other).expect("a file");
    let ran = demo(&folder);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert_eq!(lines(&ran, "NOT VERIFIED: svix-signature does not fit"), 1, "{}", ran.stdout);
    assert_eq!(lines(&ran, "  verified: "), 4, "{}", ran.stdout);
    assert!(ran.stdout.contains("4 of 5 deliveries"), "{}", ran.stdout);
}

fn demo(folder: &TempDir) -> Ran {
    plugpost(["demo".as_ref(), folder.path().as_os_str(), "--exit".as_ref()])
}

fn lines(ran: &Ran, part: &str) -> usize {
    ran.stdout.lines().filter(|it| it.contains(part)).count()
}

/// The example, on ports of its own.
pub(crate) fn example() -> TempDir {
    let folder = copy_with_plugins(&root().join("examples/five-platforms"));
    let file = folder.path().join("plugpost.toml");
    let text = fs::read_to_string(&file).expect("a file");
    let listen = "[listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";
    fs::write(&file, format!("{text}\n{listen}")).expect("a file");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    for of in ["routes", "demo"] {
        for file in files(&folder.path().join(of), "toml") {
            let text = fs::read_to_string(&file).expect("a file");
            let moved = text.replace("8082", &free.port().to_string());
            assert_ne!(text, moved, "{}", file.display());
            fs::write(&file, moved).expect("a file");
        }
    }
    folder
}
