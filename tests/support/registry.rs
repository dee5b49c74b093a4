//! An OCI registry as a process: Debian's `docker-registry`, which is the reference
//! implementation of the distribution spec.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use tempfile::TempDir;

use super::PATIENCE;

/// A running registry with an empty store. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    child: Child,
    /// Host and port.
    pub(crate) host: String,
    folder: TempDir,
}

const BINARY: &str = "docker-registry";

/// `printf hush-tulip-41 | htpasswd -nBi -C 5 courier`
const HTPASSWD: &str = "courier:$2y$05$abcdefghijklmnopqrstuuumNty29jbOhSEUFPUotBUSSj.uHt4mm\n";

impl Registry {
    /// One that asks nobody who they are.
    pub(crate) fn start() -> Self {
        Self::with_auth(|_| String::new())
    }

    /// One that wants the user `courier` with the password `hush-tulip-41`.
    pub(crate) fn with_login() -> Self {
        Self::with_auth(|folder| {
            let file = folder.join("htpasswd");
            fs::write(&file, HTPASSWD).expect("a file");
            format!("auth: {{htpasswd: {{realm: parcels, path: {}}}}}\n", file.display())
        })
    }

    /// One that wants a token from there, whichever it is.
    pub(crate) fn with_tokens_from(url: &str) -> Self {
        Self::with_auth(|_| format!("auth: {{silly: {{realm: '{url}', service: parcels}}}}\n"))
    }

    #[track_caller]
    fn with_auth(auth: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n{}",
            folder.path().join("store").display(),
            auth(folder.path())
        );
        fs::write(&config, text).expect("a file");
        let child = Command::new(BINARY)
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child
            .unwrap_or_else(|it| panic!("{BINARY} does not start ({it}): run `make registry`"));
        let stderr = child.stderr.take().expect("piped");
        let (sender, listens) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let host: String =
                        rest.chars().take_while(|it| !it.is_whitespace() && *it != '"').collect();
                    let _ = sender.send(host);
                }
            }
        });
        let host = listens.recv_timeout(PATIENCE).expect("the registry listens");
        Self { child, host, folder }
    }

    /// Where it keeps the bytes with that SHA-256.
    pub(crate) fn blob(&self, sha256: &str) -> PathBuf {
        let blobs = self.folder.path().join("store/docker/registry/v2/blobs/sha256");
        blobs.join(&sha256[..2]).join(sha256).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
