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

/// The platform's plugin, as it is built.
pub(crate) fn plugin() -> PathBuf {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins");
    plugins.join(PLATFORM).with_extension("wasm")
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
        let write = |path: &str, text: String| {
            let path = hub.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
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
        fs::create_dir_all(hub.path().join("plugins")).expect("a folder");
        fs::copy(plugin(), hub.path().join("plugins").join(format!("{PLATFORM}.wasm")))
            .expect("the plugins are built: make plugins");
        Self(hub)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn start(&self) -> (Process, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plugpost"))
            .arg("serve")
            .arg(self.0.path())
            .env("BENCH_TOKEN", TOKEN)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the engine starts");
        let stdout = child.stdout.take().expect("a pipe");
        let line = BufReader::new(stdout).lines().next().expect("a line").expect("text");
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once(','));
        let address = address.expect("an address").0.parse().expect("an address");
        (Process(child), address)
    }
}
