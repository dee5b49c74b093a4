//! The files that run a cluster name what there is: paths that are answered, ports that are
//! listened on, a folder that is right, and times that fit each other.

use std::fs;
use std::path::PathBuf;

use crate::support::engine::Engine;
use crate::support::hub::Hub;
use crate::support::{plugpost, root};

fn folder() -> PathBuf {
    root().join("examples/cluster")
}

fn text(file: &str) -> String {
    let path = folder().join(file);
    fs::read_to_string(&path).unwrap_or_else(|it| panic!("{}: {it}", path.display()))
}

/// What follows a key, wherever it stands; never nothing.
#[track_caller]
fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let after = text.split(key).skip(1);
    let values: Vec<_> =
        after.filter_map(|it| it.split(['\n', ',', '}', '"']).next()).map(str::trim).collect();
    assert!(!values.is_empty(), "there is no {key}");
    values
}

const FILES: [&str; 3] = ["plugpost.toml", "sources/erp.toml", "routes/everything.toml"];

#[test]
fn the_folder_of_the_cluster_is_right_with_the_secrets_that_the_manifests_give_it() {
    let copy = tempfile::tempdir().expect("a folder");
    for file in FILES {
        let to = copy.path().join("hub").join(file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::write(to, text(&format!("hub/{file}"))).expect("written");
    }
    let secrets = copy.path().join("secrets");
    fs::create_dir(&secrets).expect("made");
    let (compose, kubernetes) = (text("compose.yaml"), text("kubernetes.yaml"));
    for (name, value) in [
        ("store_url", "postgres://plugpost:hush@postgres:5432/plugpost"),
        ("secret_key", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="),
        ("erp_token", "erp-0123456789-token"),
        ("operator_token", "operator-0123456789-token"),
    ] {
        assert!(compose.contains(&format!("target: /etc/plugpost/secrets/{name} ")), "{name}");
        assert!(compose.contains(&format!("  {name}: {{ file: secrets/{name} }}")), "{name}");
        assert!(kubernetes.contains(&format!("\n  {name}: ")), "{name}");
        assert!(text("README.md").contains(name), "{name}");
        // As `openssl rand` writes it.
        fs::write(secrets.join(name), format!("{value}\n")).expect("written");
    }
    let check = || plugpost(["check".as_ref(), copy.path().join("hub").as_os_str()]);
    let ran = check();
    assert_eq!(ran.status, Some(0), "{ran:?}");
    fs::remove_file(secrets.join("operator_token")).expect("it is there");
    assert_eq!(check().status, Some(1), "nothing reads the secrets");
    for manifest in [&compose, &kubernetes] {
        assert!(manifest.contains("/etc/plugpost/hub"), "{manifest}");
    }
    assert!(text("Dockerfile").contains("CMD [\"serve\", \"/etc/plugpost/hub\"]"));
}

#[test]
fn the_config_map_holds_the_same_folder() {
    let manifest = text("kubernetes.yaml");
    for file in FILES {
        let key = file.replace('/', ".");
        assert!(manifest.contains(&format!("{{ key: {key}, path: {file} }}")), "{file}");
        let (_, block) = manifest.split_once(&format!("\n  {key}: |\n")).expect(file);
        let lines = block.lines().take_while(|it| it.is_empty() || it.starts_with("    "));
        let held: String =
            lines.map(|it| it.strip_prefix("    ").unwrap_or(it).to_owned() + "\n").collect();
        assert_eq!(held, text(&format!("hub/{file}")), "{file}");
    }
}

#[test]
fn probes_ask_what_is_answered_where_it_is_answered() {
    let engine = Engine::start(&Hub::stored(None, "", ""));
    let (compose, kubernetes) = (text("compose.yaml"), text("kubernetes.yaml"));
    let hub = text("hub/plugpost.toml");
    for path in values(&kubernetes, "httpGet: { path: ") {
        assert_eq!(engine.get(path).status, 200, "{path}");
    }
    assert_eq!(values(&kubernetes, "httpGet: {").len(), 3);
    for url in values(&compose, "http://127.0.0.1:") {
        let (port, path) = url.split_once('/').expect("a path");
        assert!(hub.contains(&format!("admin = \"0.0.0.0:{port}\"")), "{url}");
        assert_eq!(engine.get(&format!("/{path}")).status, 200, "{url}");
    }
    let mut ports = values(&kubernetes, "containerPort: ");
    ports.iter_mut().for_each(|it| *it = it.trim());
    let listens = values(&hub, "0.0.0.0:");
    assert_eq!(ports, listens);
    for port in &ports {
        assert!(
            values(&compose, "\"127.0.0.1:").iter().any(|it| it.ends_with(&format!(":{port}")))
        );
    }
    let exposed = format!("EXPOSE {}", ports.join(" "));
    assert!(text("Dockerfile").contains(&exposed), "{exposed}");
    // What the image asks with is in it.
    assert!(text("Dockerfile").contains(" curl "), "the health check has no curl");
}

#[test]
fn whoever_stops_an_engine_waits_longer_than_it_takes() {
    let documented = fs::read_to_string(root().join("docs/configuration.md")).expect("it is there");
    let of_engine = values(&documented, "| `delivery.stop_timeout` | `");
    let of_engine: u64 = of_engine[0].split('s').next().expect("seconds").parse().expect("seconds");
    let seconds = |text: &str, key: &str| -> u64 {
        values(text, key)[0].trim_end_matches('s').parse().expect("seconds")
    };
    assert!(seconds(&text("compose.yaml"), "stop_grace_period: ") > of_engine);
    let kubernetes = text("kubernetes.yaml");
    let before: u64 = kubernetes
        .split_once("command: [sleep, \"")
        .and_then(|(_, it)| it.split('"').next())
        .and_then(|it| it.parse().ok())
        .expect("seconds of preStop");
    assert!(seconds(&kubernetes, "terminationGracePeriodSeconds: ") > of_engine + before);
    // One may be away, so a roll-out and a drained machine leave most of them.
    let (replicas, available) =
        (seconds(&kubernetes, "replicas: "), seconds(&kubernetes, "minAvailable: "));
    assert_eq!(available + 1, replicas);
    assert_eq!(seconds(&text("compose.yaml"), "replicas: "), replicas);
}

#[test]
fn the_image_is_built_of_what_is_there() {
    let dockerfile = text("Dockerfile");
    let ignored = text("Dockerfile.dockerignore");
    let mut copied = 0;
    for line in dockerfile.lines().filter(|it| it.starts_with("COPY ") && !it.contains("--from")) {
        let words: Vec<_> = line.split_whitespace().skip(1).collect();
        for source in &words[..words.len() - 1] {
            assert!(root().join(source).exists(), "{line}");
            assert!(ignored.lines().any(|it| it == format!("!{source}")), "{source} is ignored");
            copied += 1;
        }
    }
    assert!(copied >= 5, "{dockerfile}");
    // Every member of the workspace is in it, for without them cargo refuses.
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("it is there");
    let members = workspace.lines().find_map(|it| it.strip_prefix("members = ")).expect("members");
    let members = members.split('"').skip(1).step_by(2);
    for top in members.filter_map(|it| it.split('/').next()) {
        assert!(dockerfile.contains(&format!("COPY {top} {top}")), "{top}");
    }
    // The settings of its C code too, and it is the binary to ship.
    assert!(dockerfile.contains("COPY .cargo .cargo"), "{dockerfile}");
    assert!(dockerfile.contains("RUN make dist"), "{dockerfile}");
    let toolchain = values(&workspace, "rust-version = \"")[0];
    assert!(dockerfile.contains(&format!("FROM rust:{toolchain}-")), "{toolchain}");
}
