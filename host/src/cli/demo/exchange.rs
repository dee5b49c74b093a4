//! One exchange of the demo: what a platform sends, and what its customer must get.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use serde::Deserialize;

use super::signing::{Proof, Scheme};
use crate::cli::remote::request_any;
use crate::clock;

/// `demo/NAME.toml`, read.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) name: String,
    pub(super) send: Sent,
    pub(super) receive: Expected,
}

/// What the platform sends.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) path: String,
    pub(super) body: Bytes,
    proof: Proof,
}

/// What must arrive at the receiver.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// `host:port` of the receiver, the same in all exchanges.
    pub(super) address: SocketAddr,
    pub(super) path: String,
    pub(super) proof: Proof,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    send: SendTable,
    receive: ReceiveTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendTable {
    path: String,
    body: String,
    proof: Scheme,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiveTable {
    address: SocketAddr,
    path: String,
    proof: Scheme,
}

/// Every `demo/*.toml` of a folder, in the order of their names.
pub(super) fn read_all(folder: &Path) -> anyhow::Result<Vec<Exchange>> {
    let demo = folder.join("demo");
    let entries = fs::read_dir(&demo).with_context(|| format!("reading {}", demo.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|it| it.path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "toml"));
    files.sort();
    let read_one = |file: &std::path::PathBuf| {
        read(folder, file).with_context(|| format!("reading {}", file.display()))
    };
    files.iter().map(read_one).collect()
}

fn read(folder: &Path, file: &Path) -> anyhow::Result<Exchange> {
    let File { send, receive } = toml::from_str(&fs::read_to_string(file)?)?;
    let body = folder.join("demo").join(&send.body);
    let body = fs::read(&body).with_context(|| format!("reading {}", body.display()))?;
    Ok(Exchange {
        name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        send: Sent { path: send.path, body: body.into(), proof: Proof::new(send.proof, folder)? },
        receive: Expected {
            address: receive.address,
            path: receive.path,
            proof: Proof::new(receive.proof, folder)?,
        },
    })
}

impl Exchange {
    /// Send it as the platform would; returns the engine's answer.
    pub(super) async fn send(&self, engine: SocketAddr) -> anyhow::Result<StatusCode> {
        let url = format!("http://{engine}{}", self.send.path);
        let mut request = Request::post(url).body(Full::new(self.send.body.clone()))?;
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let id = format!("msg_{}", clock::id_text(clock::first_id_at(clock::now())));
        let now_s = clock::now().0 / 1000;
        for (name, value) in self.send.proof.headers(&id, now_s, &self.send.body) {
            headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        Ok(request_any(request).await?.0)
    }
}
