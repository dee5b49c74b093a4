//! `plugpost listen`: a receiver on this machine that shows what arrives. It verifies
//! by code of its own, not by a plugin's.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use clap::Args;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::json;
use sha2::Sha256;
use tokio::sync::watch;

use super::demo::signing::Proof;
use super::{block_on, say, serve, styled};
use crate::clock;
use crate::server::Listener;

/// Be a receiver: show what arrives, and verify it
///
/// With --key, what is signed wrongly is answered 401.
#[derive(Args)]
pub(super) struct Listen {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8082")]
    addr: SocketAddr,
    /// The key of the signatures: of Standard Webhooks (whsec_…, or any text) or, with
    /// --hmac-header, of an HMAC-SHA256 over the body
    #[arg(long, env = "PLUGPOST_KEY", hide_env_values = true)]
    key: Option<String>,
    /// The header that holds an HMAC-SHA256 of the body, in hex or base64
    #[arg(long, requires = "key", value_name = "HEADER")]
    hmac_header: Option<String>,
    /// What to answer
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..600))]
    status: u16,
    /// Show headers and body too
    #[arg(long, short)]
    verbose: bool,
    /// Print each request as a line of JSON
    #[arg(long)]
    json: bool,
}

/// Larger bodies are refused.
const BODY_BYTES_MAX: usize = 16 << 20;

/// How a request is verified.
enum Check {
    None,
    StandardWebhooks(Vec<u8>),
    Hmac { key: Vec<u8>, header: String },
}

struct Shown {
    check: Check,
    status: StatusCode,
    verbose: bool,
    json: bool,
}

impl Listen {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let check = match (&self.key, &self.hmac_header) {
            (None, _) => Check::None,
            (Some(key), Some(header)) => {
                Check::Hmac { key: key.clone().into_bytes(), header: header.to_lowercase() }
            }
            (Some(key), None) => Check::StandardWebhooks(match key.strip_prefix("whsec_") {
                Some(encoded) => BASE64_STANDARD.decode(encoded).context("--key is no whsec_…")?,
                None => key.clone().into_bytes(),
            }),
        };
        let Ok(status) = StatusCode::from_u16(self.status) else { bail!("--status is no status") };
        let shown = Shown { check, status, verbose: self.verbose, json: self.json };
        block_on(self.listen(Arc::new(shown)))
    }

    async fn listen(&self, shown: Arc<Shown>) -> anyhow::Result<bool> {
        let listener = Listener::bind(self.addr).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", self.addr))?;
        eprintln!("listening at http://{}", listener.address);
        let (stop, stopped) = watch::channel(false);
        let answer = move |request| answer(shown.clone(), request);
        let serving = tokio::spawn(listener.serve(answer, stopped));
        serve::asked_to_stop()?.await;
        let _ = stop.send(true);
        let _ = serving.await;
        Ok(true)
    }
}

async fn answer(shown: Arc<Shown>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(Full::default());
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map(|it| it.to_bytes());
    let Ok(body) = body else {
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return response;
    };
    let verdict = shown.check.verify(&parts.headers, &body);
    *response.status_mut() = match &verdict {
        Some(Err(_)) => StatusCode::UNAUTHORIZED,
        _ => shown.status,
    };
    if let Err(error) = shown.show(&parts, &body, verdict) {
        eprintln!("error: {error:#}");
    }
    response
}

impl Shown {
    fn show(
        &self,
        parts: &http::request::Parts,
        body: &[u8],
        verdict: Option<Result<String, String>>,
    ) -> anyhow::Result<()> {
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let id = parts.headers.get("webhook-id").map(text);
        let verified = verdict.as_ref().map(Result::is_ok);
        if self.json {
            let headers: Vec<_> =
                parts.headers.iter().map(|(name, it)| (name.as_str(), text(it))).collect();
            return say(json!({
                "at": clock::now().to_string(),
                "method": parts.method.as_str(),
                "path": parts.uri.to_string(),
                "headers": headers,
                "body": String::from_utf8_lossy(body),
                "verified": verified,
                "verdict": verdict.map(|it| it.unwrap_or_else(|why| why)),
            }));
        }
        let (word, why) = match verdict {
            None => ("received", String::new()),
            Some(Ok(how)) => ("delivered", how),
            Some(Err(why)) => ("reject", why),
        };
        // The colour says it too.
        let word =
            styled(word, 9).replace("delivered", "verified ").replace("reject  ", "unverified");
        say(format!(
            "{}  {word} {} {}  {}  {} bytes  {why}",
            clock::now(),
            parts.method,
            parts.uri,
            id.as_deref().unwrap_or("-"),
            body.len(),
        ))?;
        if self.verbose {
            for (name, value) in &parts.headers {
                say(format!("    {name}: {}", text(value)))?;
            }
            say(format!("\n{}\n", String::from_utf8_lossy(body)))?;
        }
        Ok(())
    }
}

impl Check {
    /// None when nothing is to be verified.
    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Option<Result<String, String>> {
        match self {
            Self::None => None,
            Self::StandardWebhooks(key) => {
                let has = |prefix: &&str| headers.contains_key(format!("{prefix}-signature"));
                let prefix = ["webhook", "svix"].into_iter().find(has).unwrap_or("webhook");
                let proof = Proof::Signature { prefix: prefix.into(), key: key.clone() };
                Some(proof.check(headers, clock::now().0 / 1000, body))
            }
            Self::Hmac { key, header } => Some(hmac_fits(key, header, headers, body)),
        }
    }
}

fn hmac_fits(key: &[u8], header: &str, headers: &HeaderMap, body: &[u8]) -> Result<String, String> {
    let value = headers.get(header).and_then(|it| it.to_str().ok());
    let value = value.ok_or_else(|| format!("no header {header}"))?;
    // As `sha256=…` too, which is how many name the algorithm.
    let value = value.strip_prefix("sha256=").unwrap_or(value);
    let codes = [hex::decode(value).ok(), BASE64_STANDARD.decode(value).ok()];
    let fits = |code: &Vec<u8>| {
        let mut expected =
            Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        expected.update(body);
        expected.verify_slice(code).is_ok()
    };
    match codes.iter().flatten().any(fits) {
        true => Ok(format!("{header} fits")),
        false => Err(format!("{header} does not fit")),
    }
}
