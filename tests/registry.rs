//! Plugins from an OCI registry: pushed, pulled by digest, kept, checked; and what
//! is said when one cannot be had.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::support::client;
use crate::support::engine::{self, Engine};
use crate::support::hub::{Hub, route};
use crate::support::receiver::{Receiver, Reply};
use crate::support::registry::Registry;
use crate::support::{Ran, plugin, plugpost};

const LOGIN: [(&str, &str); 2] =
    [("PLUGPOST_REGISTRY_USERNAME", "courier"), ("PLUGPOST_REGISTRY_PASSWORD", "hush-tulip-41")];

fn push(registry: &Registry, name: &str, environment: &[(&str, &str)]) -> Ran {
    let mut command = engine::command(env!("CARGO_BIN_EXE_plugpost").as_ref());
    let to = format!("oci://{}/plugins/{name}:1.0.0", registry.host);
    command.args(["plugin", "push", "--plain-http"]).arg(plugin("hmac")).arg(to);
    command.envs(environment.iter().copied());
    Ran::from(command.output().expect("the binary starts"))
}

fn pushed(registry: &Registry) -> String {
    let ran = push(registry, "hmac", &[]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    ran.stdout.trim().to_owned()
}

/// A hub with a route that needs the plugin `hmac`, which comes from there.
fn hub(host: &str, reference: &str, more: &str) -> Hub {
    let tables = format!(
        "[plugins]\nfetch = [\"{reference}\"]\n{more}\n\n\
         [[registry]]\nhost = \"{host}\"\nhttps_only = false\n"
    );
    let hub = Hub::with("", &tables);
    hub.secret("key", "parcel-tulip-7312");
    let auth = "[[auth]]\nplugin = \"hmac\"\nsettings.scheme = \"github\"\n\
                secrets.key = { file = \"secrets/key\" }\n";
    hub.route("out", format!("{}\n{auth}", route("https://receiver.example/", "", "")));
    hub
}

fn check(hub: &Hub) -> Ran {
    plugpost([OsStr::new("check"), hub.path().as_os_str()])
}

/// `check` finds this, and nothing else.
#[track_caller]
fn one_problem(hub: &Hub, says: &[&str]) {
    let ran = check(hub);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.ends_with("error: 1 problem\n"), "{ran:?}");
    assert!(ran.stderr.starts_with("plugpost.toml:"), "{ran:?}");
    for part in says {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
}

/// The files of the cache; not the manifest, but what is as long as the plugin.
fn kept(hub: &Hub) -> PathBuf {
    let size = fs::metadata(plugin("hmac")).expect("the plugin").len();
    let entries = fs::read_dir(hub.path().join("plugpost.plugins")).expect("the cache");
    let paths: Vec<_> = entries.map(|it| it.expect("an entry").path()).collect();
    assert_eq!(paths.len(), 2, "{paths:?}");
    let of_size = |it: &PathBuf| fs::metadata(it).is_ok_and(|it| it.len() == size);
    paths.into_iter().find(of_size).expect("the plugin")
}

fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn a_pushed_plugin_is_pulled_by_its_digest_kept_and_checked() {
    let registry = Registry::start();
    let reference = pushed(&registry);
    assert_eq!(pushed(&registry), reference, "the same file is the same artifact");
    let hub = hub(&registry.host, &reference, "");
    let ran = check(&hub);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("plugin  hmac "), "{ran:?}");
    let engine = Engine::start(&hub);
    let plugins = engine.get("/v1/plugins").json();
    let bytes = fs::read(plugin("hmac")).expect("the plugin");
    assert_eq!(plugins["data"][0]["sha256"], sha256(&bytes), "{plugins}");
    drop(engine);

    // Without the registry, what was kept will do; but only as long as it is that.
    let host = registry.host.clone();
    drop(registry);
    assert_eq!(check(&hub).status, Some(0));
    let file = kept(&hub);
    let mut other = bytes.clone();
    *other.last_mut().expect("not empty") ^= 1;
    fs::write(&file, other).expect("a file");
    one_problem(&hub, &[&reference, &format!("cannot reach {host}: "), "refused"]);
    fs::write(&file, bytes).expect("a file");
    assert_eq!(check(&hub).status, Some(0));
}

#[test]
fn a_list_alone_is_enough_and_pins_hold_as_for_files() {
    let registry = Registry::start();
    let reference = pushed(&registry);
    let whole = hub(&registry.host, &reference, "require_pins = true");
    one_problem(&whole, &[&reference, "not pinned, and `plugins.require_pins` is true"]);
    let digest = sha256(fs::read(plugin("hmac")).expect("the plugin"));
    let pinned = format!("require_pins = true\nsha256.hmac = \"{digest}\"");
    assert_eq!(check(&hub(&registry.host, &reference, &pinned)).status, Some(0));

    // A file of that name would leave open which of the two it is.
    let twice = hub(&registry.host, &reference, "");
    twice.plugin("hmac");
    one_problem(&twice, &["plugins/hmac.wasm is a plugin of the same name"]);

    let text = fs::read_to_string(twice.path().join("plugpost.toml")).expect("the file");
    fs::remove_file(twice.path().join("plugins/hmac.wasm")).expect("it goes");
    let list = format!("plugins = [\"{reference}\"]\n");
    let text = text.replace(&format!("[plugins]\nfetch = [\"{reference}\"]\n"), "");
    twice.write("plugpost.toml", list + &text);
    let ran = check(&twice);
    assert_eq!(ran.status, Some(0), "{ran:?}");
}

#[test]
fn what_is_wrong_with_a_reference_is_said_where_it_stands() {
    let registry = Registry::start();
    let (host, reference) = (registry.host.clone(), pushed(&registry));
    let (without, _) = reference.split_once('@').expect("a digest");
    let run = |reference: &str| {
        let ran = check(&hub(&host, reference, ""));
        assert_eq!(ran.status, Some(1), "{ran:?}");
        ran.stderr
    };
    let said = run(without);
    assert!(said.contains("has no digest: add the `@sha256:…`"), "{said}");
    assert!(run(&reference.replace("oci://", "")).contains("it begins with `oci://`"));
    let other = format!("{without}@sha256:{}", "0f".repeat(32));
    one_problem(
        &hub(&host, &other, ""),
        &[&format!("{host} answers 404: the manifest is not there")],
    );

    // Loopback is no public address, for a registry as for an endpoint.
    let private = hub(&host, &reference, "");
    let text = fs::read_to_string(private.path().join("plugpost.toml")).expect("the file");
    private.write("plugpost.toml", text.replace("allow_networks = [\"127.0.0.0/8\"]", ""));
    one_problem(&private, &["127.0.0.1 is not a public address", "delivery.allow_networks"]);
    // It is asked over TLS unless the hub says otherwise.
    let text = fs::read_to_string(private.path().join("plugpost.toml")).expect("the file");
    let text = text.replace("[delivery]", "[delivery]\nallow_networks = [\"127.0.0.0/8\"]");
    private.write("plugpost.toml", text.replace("https_only = false", ""));
    one_problem(&private, &[&format!("cannot reach {host}: ")]);
}

#[test]
fn what_is_not_what_was_asked_for_is_not_loaded() {
    let registry = Registry::start();
    let reference = pushed(&registry);
    let digest = sha256(fs::read(plugin("hmac")).expect("the plugin"));
    let size = fs::metadata(registry.blob(&digest)).expect("the blob").len();
    fs::write(registry.blob(&digest), vec![b'x'; usize::try_from(size).expect("small")])
        .expect("a file");
    let hub = hub(&registry.host, &reference, "");
    one_problem(
        &hub,
        &["the digest differs: the plugin that ", &format!("wanted was sha256:{digest}")],
    );
    let kept = fs::read_dir(hub.path().join("plugpost.plugins")).expect("the cache").count();
    assert_eq!(kept, 1, "only the manifest");

    // An image that is no plugin; and a layer that says it is one and is not.
    let put = |kind: &str| {
        let layer = b"not WebAssembly";
        let address = registry.host.parse().expect("an address");
        let begun = client::ask(address, "POST", "/v2/plugins/hmac/blobs/uploads/", &[], b"");
        let place = begun.header("location").expect("a place").to_owned();
        let path = place.find("/v2/").expect("a path of the registry");
        let digest = format!("sha256:{}", sha256(layer));
        let place = format!("{}&digest={digest}", &place[path..]);
        let kind_of = [("content-type", "application/octet-stream")];
        assert_eq!(client::ask(address, "PUT", &place, &kind_of, layer).status, 201);
        let blob = json!({ "mediaType": kind, "digest": digest, "size": layer.len() });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob, "layers": [blob],
        })
        .to_string();
        let kind_of = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
        let path = "/v2/plugins/hmac/manifests/other";
        let answer = client::ask(address, "PUT", path, &kind_of, manifest.as_bytes());
        assert_eq!(answer.status, 201, "{}", answer.text());
        format!("oci://{}/plugins/hmac@sha256:{}", registry.host, sha256(&manifest))
    };
    let image = put("application/vnd.oci.image.layer.v1.tar");
    let says = ["not a plugin: it has 1 layers", "image.layer.v1.tar"];
    one_problem(&self::hub(&registry.host, &image, ""), &says);
    let named = put("application/wasm");
    one_problem(&self::hub(&registry.host, &named, ""), &["not WebAssembly"]);
}

#[test]
fn a_registry_that_wants_a_login_gets_the_one_that_is_given() {
    let registry = Registry::with_login();
    let ran = push(&registry, "hmac", &[]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("401 Unauthorized: it wants a login"), "{ran:?}");
    let ran = push(&registry, "hmac", &LOGIN);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let reference = ran.stdout.trim();

    let hub = hub(&registry.host, reference, "");
    one_problem(&hub, &[reference, "401 Unauthorized: it wants a login: [[registry]]"]);
    let text = fs::read_to_string(hub.path().join("plugpost.toml")).expect("the file");
    let login = "username = { file = \"secrets/user\" }\npassword = { file = \"secrets/pass\" }\n";
    hub.write("plugpost.toml", format!("{text}{login}"));
    hub.secret("user", "courier").secret("pass", "wrong");
    one_problem(&hub, &["401 Unauthorized: its [[registry]] has a username or password that is"]);
    hub.secret("pass", "hush-tulip-41");
    let ran = check(&hub);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    hub.write("plugpost.toml", format!("{text}username = {{ file = \"secrets/user\" }}\n"));
    let ran = check(&hub);
    assert!(ran.stderr.contains("a login has a username and a password"), "{ran:?}");
}

#[test]
fn a_token_is_fetched_where_the_registry_says() {
    let tokens = Receiver::start(|_| Reply::status(200).with_body("{\"token\":\"t-7731\"}"));
    let registry = Registry::with_tokens_from(&tokens.url("/token"));
    let ran = push(&registry, "hmac", &LOGIN);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let asked = tokens.first(1);
    // printf courier:hush-tulip-41 | base64
    let basic = "Basic Y291cmllcjpodXNoLXR1bGlwLTQx";
    assert_eq!(asked[0].header("authorization"), Some(basic));
    let hub = hub(&registry.host, ran.stdout.trim(), "");
    let ran = check(&hub);
    assert_eq!(ran.status, Some(0), "{ran:?}");
}

#[test]
fn the_command_says_what_it_needs() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plugpost"));
        command.args(["plugin", "push"]).arg(plugin("hmac")).args(arguments);
        Ran::from(command.output().expect("the binary starts"))
    };
    let ran = run(&["hmac:1.0.0"]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("it begins with `oci://`"), "{ran:?}");
    // Port 1 is nobody's.
    let ran = run(&["--plain-http", "oci://127.0.0.1:1/hmac:1.0.0"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("cannot reach 127.0.0.1:1"), "{ran:?}");
}
