//! The engine under load: a hub with a source for each endpoint, or one that goes to all.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::Process;

pub(crate) const TOKEN: &str = "bench-token";

/// The platform whose plugin makes and signs the message.
pub(crate) const PLATFORM: &str = "bigcommerce-b2b";

/// What runs for each delivery.
#[derive(Clone, Copy)]
pub(crate) enum Plugins {
    None,
    /// One that looks at a field and lets the event pass.
    Filter,
    /// The platform's: it makes the message and signs it.
    Platform,
}

pub(crate) struct Hub(TempDir);

/// An engine that runs, and where it listens.
pub(crate) struct Engine {
    pub(crate) process: Process,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// What is measured: the engine that was built with this, or another that is asked for.
pub(crate) fn binary() -> PathBuf {
    other().unwrap_or_else(|| env!("CARGO_BIN_EXE_plugpost").into())
}

/// Another engine's binary. What is measured of that is shown, not kept.
pub(crate) fn other() -> Option<PathBuf> {
    env::var_os("BENCH_ENGINE").map(Into::into)
}

/// A plugin, as it is built.
pub(crate) fn plugin(name: &str) -> PathBuf {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins");
    plugins.join(name).with_extension("wasm")
}

/// Everything from a source, through the platform's plugin.
pub(crate) fn route(from: &str, port: u16) -> String {
    route_through(Plugins::Platform, from, port, "")
}

/// Everything from a source, to a path of a port.
fn route_through(plugins: Plugins, from: &str, port: u16, path: &str) -> String {
    let stages = match plugins {
        Plugins::None => String::new(),
        Plugins::Filter => {
            "[[filter]]\nplugin = \"cel\"\nsettings.expression = \"data.company_id > 0\"\n".into()
        }
        Plugins::Platform => format!(
            "platform = \"{PLATFORM}\"\nsettings.store_id = \"1\"\nsettings.store_hash = \"h\"\n\
             secrets.client_secret = {{ env = \"BENCH_TOKEN\" }}\n"
        ),
    };
    let rules = match plugins {
        Plugins::Platform => format!("https_only = false\nport = {port}\n"),
        _ => String::new(),
    };
    format!(
        "from = \"{from}\"\ntypes = [\"store/*\"]\n{stages}\
         [endpoint]\nurl = \"http://127.0.0.1:{port}/{path}\"\n{rules}"
    )
}

impl Hub {
    /// A source that goes to all of these ports and one for each, through the platform.
    pub(crate) fn new(ports: &[u16]) -> Self {
        let hub = Self::of(ports, ports.len(), Plugins::Platform);
        hub.source("all");
        for (at, port) in ports.iter().enumerate() {
            hub.write(&format!("routes/all-{at}.toml"), route("all", *port));
        }
        hub
    }

    /// So many sources with an endpoint each: a port of its own, or a path of one.
    pub(crate) fn of(ports: &[u16], endpoints: usize, plugins: Plugins) -> Self {
        let hub = Self(tempfile::tempdir().expect("a temporary folder"));
        hub.write(
            "plugpost.toml",
            "[listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             [delivery]\nallow_networks = [\"127.0.0.0/8\"]\nstop_timeout = \"1s\"\n\
             [[token]]\nname = \"bench\"\nsecret = { env = \"BENCH_TOKEN\" }\nscopes = [\"ingest\"]\n",
        );
        hub.plugin(PLATFORM);
        if matches!(plugins, Plugins::Filter) {
            hub.plugin("cel");
        }
        for at in 0..endpoints {
            let path = if endpoints > ports.len() { format!("e{at}") } else { String::new() };
            let from = format!("s{at}");
            hub.source(&from);
            let text = route_through(plugins, &from, ports[at % ports.len()], &path);
            hub.write(&format!("routes/one-{at}.toml"), text);
        }
        hub
    }

    pub(crate) fn source(&self, name: &str) {
        self.write(&format!("sources/{name}.toml"), "tokens = [\"bench\"]\n");
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    pub(crate) fn append(&self, path: &str, text: &str) {
        let before = fs::read_to_string(self.path().join(path)).expect("the hub has it");
        self.write(path, before + text);
    }

    /// A copy of a plugin that is built.
    pub(crate) fn plugin(&self, name: &str) {
        let bytes = fs::read(plugin(name)).expect("the plugins are built: make plugins");
        self.write(&format!("plugins/{name}.wasm"), bytes);
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn start(&self) -> Engine {
        let mut child = Command::new(binary())
            .arg("serve")
            .arg(self.0.path())
            .env("BENCH_TOKEN", TOKEN)
            // What it says of itself stands between no figures, unless somebody asks.
            .env("PLUGPOST_LOG", env::var("PLUGPOST_LOG").unwrap_or_else(|_| "error".into()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the engine starts");
        let stdout = child.stdout.take().expect("a pipe");
        let line = BufReader::new(stdout).lines().next().expect("a line").expect("text");
        let mut addresses = line.split("http://").skip(1).map(|it| {
            let address = it.split([',', ' ']).next().unwrap_or_default();
            address.parse().expect("an address")
        });
        let mut next = || addresses.next().expect("two addresses");
        Engine { process: Process(child), public: next(), admin: next() }
    }
}
