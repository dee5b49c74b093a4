//! The engine under load: a hub with 100 sources that go to one endpoint each,
//! and one that goes to all, through a platform plugin that wraps and signs.

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

pub(crate) struct Hub(TempDir);

/// A plugin, as it is built.
pub(crate) fn plugin(name: &str) -> PathBuf {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins");
    plugins.join(name).with_extension("wasm")
}

/// Everything from a source, through the platform's plugin.
pub(crate) fn route(from: &str, port: u16) -> String {
    format!(
        "from = \"{from}\"\ntypes = [\"store/*\"]\nplatform = \"{PLATFORM}\"\n\
         settings.store_id = \"1\"\nsettings.store_hash = \"h\"\n\
         secrets.client_secret = {{ env = \"BENCH_TOKEN\" }}\n\
         [endpoint]\nurl = \"http://127.0.0.1:{port}/\"\nhttps_only = false\nport = {port}\n"
    )
}

impl Hub {
    pub(crate) fn new(ports: &[u16]) -> Self {
        let hub = tempfile::tempdir().expect("a temporary folder");
        let hub = Self(hub);
        let write = |path: &str, text: String| hub.write(path, text);
        write(
            "plugpost.toml",
            "[listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             [delivery]\nallow_networks = [\"127.0.0.0/8\"]\n\
             [[token]]\nname = \"bench\"\nsecret = { env = \"BENCH_TOKEN\" }\nscopes = [\"ingest\"]\n"
                .into(),
        );
        for source in (0..ports.len()).map(|at| format!("s{at}")).chain(["all".into()]) {
            write(&format!("sources/{source}.toml"), "tokens = [\"bench\"]\n".into());
        }
        for (at, port) in ports.iter().enumerate() {
            for (name, from) in
                [(format!("one-{at}"), format!("s{at}")), (format!("all-{at}"), "all".into())]
            {
                write(&format!("routes/{name}.toml"), route(&from, *port));
            }
        }
        hub.plugin(PLATFORM);
        hub
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

    pub(crate) fn start(&self) -> (Process, SocketAddr) {
        let (process, public, _) = self.start_with_admin();
        (process, public)
    }

    /// With the address that answers questions.
    pub(crate) fn start_with_admin(&self) -> (Process, SocketAddr, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plugpost"))
            .arg("serve")
            .arg(self.0.path())
            .env("BENCH_TOKEN", TOKEN)
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
        (Process(child), next(), next())
    }
}
