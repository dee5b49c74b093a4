//! Plugins in OCI registries: a plugin is pulled by its digest, and pushed.
//!
//! The few calls of the distribution spec that this takes are made here, over
//! `client`: the usual library (`oci-client`) brings an HTTP client of its own,
//! and everything that leaves Plugpost leaves through one place and its guard.
//! References and manifests are `oci-spec`'s. This knows nothing of what a plugin is.

mod cache;
mod login;
mod reference;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::uri::Uri;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use oci_spec::distribution;
use oci_spec::image::{Descriptor, ImageManifest, ImageManifestBuilder, MediaType};
use sha2::{Digest as _, Sha256};

use crate::client::Client;
pub(crate) use cache::Cache;
pub(crate) use login::Login;
pub(crate) use reference::{Digest, Pinned, Reference};
use reference::{digest_text, parse_digest};

/// One registry, as one caller of it.
#[derive(Debug)]
pub(crate) struct Registry<'c> {
    client: &'c Client,
    host: String,
    https_only: bool,
    login: Option<&'c Login>,
    /// What the registry last wanted to hear.
    authorization: Option<HeaderValue>,
}

/// Why there is no plugin, or why it could not be put there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot reach {host}: {message}")]
    Unreachable { host: String, message: String },
    #[error(
        "{host} answers {status}: it wants a login: [[registry]] with host = \"{host}\", username \
         and password"
    )]
    NoLogin { host: String, status: StatusCode },
    #[error("{host} answers {status}: its [[registry]] has a username or password that is refused")]
    LoginRefused { host: String, status: StatusCode },
    #[error("{host} answers 404: {what} is not there")]
    NotThere { host: String, what: String },
    #[error("{host} answers {status} when asked for {what}{said}")]
    Status { host: String, what: String, status: StatusCode, said: String },
    #[error("{host} asks for the login in a way that is not known here: {challenge}")]
    Challenge { host: String, challenge: String },
    #[error("{host} sends elsewhere in a way that is not followed: {to}")]
    Redirect { host: String, to: String },
    #[error(
        "the digest differs: {what} that {host} sent is sha256:{found}, wanted was sha256:{wanted}"
    )]
    Digest { host: String, what: String, found: String, wanted: String },
    #[error("not an image manifest: {0}")]
    Manifest(String),
    #[error(
        "not a plugin: it has {count} layers ({types}), where a plugin has one of application/wasm"
    )]
    NotWasm { count: usize, types: String },
    #[error("the plugin has {size} bytes, more than the {PLUGIN_BYTES_MAX} that are read")]
    TooLarge { size: u64 },
}

/// Fits what the runtime loads, and then some.
const PLUGIN_BYTES_MAX: u64 = 128 << 20;

/// A manifest names one layer; registries take 4 MiB at most.
const MANIFEST_BYTES_MAX: usize = 256 << 10;

/// Refusals and answers to an upload.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// How much of a refusal is shown.
const SAID_CHARS_MAX: usize = 200;

/// From the registry to where it keeps its bytes.
const REDIRECTS_MAX: usize = 3;

const MANIFEST_TIMEOUT: Duration = Duration::from_secs(20);

/// 128 MiB at a little over 1 MB/s.
const PLUGIN_TIMEOUT: Duration = Duration::from_mins(2);

/// What a plugin's layer is called: now, and by the tools of before.
const WASM: &str = "application/wasm";
const WASM_BEFORE: [&str; 2] = [
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
/// What says of itself that it is Wasm (CNCF Wasm OCI artifact layout).
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

impl<'c> Registry<'c> {
    pub(crate) fn new(
        client: &'c Client,
        reference: &Reference,
        https_only: bool,
        login: Option<&'c Login>,
    ) -> Self {
        let host = reference.0.resolve_registry().to_owned();
        Self { client, host, https_only, login, authorization: None }
    }

    /// A plugin's bytes: from the cache, if all of it is there and is what it was.
    pub(crate) async fn pull(&mut self, pinned: &Pinned, cache: &Cache) -> Result<Bytes, Error> {
        let repository = pinned.reference.0.repository();
        let manifest = match cache.get(&pinned.manifest, MANIFEST_BYTES_MAX as u64) {
            Some(manifest) => manifest,
            None => {
                let digest = digest_text(&pinned.manifest);
                let path = format!("{repository}/manifests/{digest}");
                let get = Ask::get(path, MANIFEST_BYTES_MAX, MANIFEST_TIMEOUT);
                let manifest = self.fetch(get, "the manifest", &pinned.manifest).await?;
                cache.put(&pinned.manifest, &manifest);
                manifest
            }
        };
        let layer = layer_of(&manifest)?;
        let bytes_max = usize::try_from(layer.size).unwrap_or(usize::MAX);
        match cache.get(&layer.digest, layer.size) {
            Some(plugin) => Ok(plugin),
            None => {
                let path = format!("{repository}/blobs/{}", digest_text(&layer.digest));
                let get = Ask::get(path, bytes_max, PLUGIN_TIMEOUT);
                let plugin = self.fetch(get, "the plugin", &layer.digest).await?;
                cache.put(&layer.digest, &plugin);
                Ok(plugin)
            }
        }
    }

    /// Put a plugin there, and return the reference that pins it. `about` is the
    /// config of the artifact.
    pub(crate) async fn push(
        &mut self,
        to: &Reference,
        plugin: Bytes,
        about: Bytes,
        version: &str,
    ) -> Result<Pinned, Error> {
        let wrong = |error: oci_spec::OciSpecError| Error::Manifest(error.to_string());
        let media = |text: &str| MediaType::Other(text.to_owned());
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(self.upload(to, about, media(WASM_CONFIG)).await?)
            .layers([self.upload(to, plugin, media(WASM)).await?])
            // One at most: they are a map without an order, and the digest is of the text.
            .annotations([("org.opencontainers.image.version".to_owned(), version.to_owned())])
            .build()
            .map_err(wrong)?;
        let manifest = Bytes::from(manifest.to_string().map_err(wrong)?);
        let digest: Digest = Sha256::digest(&manifest).into();
        let text = digest_text(&digest);
        let path = format!("{}/manifests/{}", to.0.repository(), to.0.tag().unwrap_or(&text));
        let kind = HeaderValue::from_static("application/vnd.oci.image.manifest.v1+json");
        let put = Ask { kind: Some(kind), ..Ask::put(path, manifest) };
        self.expect(put, "the manifest's upload", StatusCode::CREATED).await?;
        let at = distribution::Reference::with_digest(
            to.0.registry().into(),
            to.0.repository().into(),
            text.clone(),
        );
        let reference = match to.0.tag() {
            None => at,
            Some(tag) => distribution::Reference::with_tag_and_digest(
                to.0.registry().into(),
                to.0.repository().into(),
                tag.into(),
                text,
            ),
        };
        Ok(Pinned { reference: Reference(reference), manifest: digest })
    }

    /// Upload bytes, unless they are there.
    async fn upload(
        &mut self,
        to: &Reference,
        bytes: Bytes,
        kind: MediaType,
    ) -> Result<Descriptor, Error> {
        let text = digest_text(&Sha256::digest(&bytes).into());
        let wrong = |error: oci_spec::OciSpecError| Error::Manifest(error.to_string());
        let digest: oci_spec::image::Digest = text.parse().map_err(wrong)?;
        let descriptor = Descriptor::new(kind, bytes.len() as u64, digest);
        let repository = to.0.repository();
        let head = Ask {
            method: Method::HEAD,
            ..Ask::get(format!("{repository}/blobs/{text}"), ANSWER_BYTES_MAX, MANIFEST_TIMEOUT)
        };
        if self.ask(&head).await?.status() == StatusCode::OK {
            return Ok(descriptor);
        }
        let begin = Ask {
            method: Method::POST,
            ..Ask::put(format!("{repository}/blobs/uploads/"), Bytes::new())
        };
        let begun = self.expect(begin, "an upload", StatusCode::ACCEPTED).await?;
        let place = begun.headers().get(LOCATION).and_then(|it| it.to_str().ok());
        let place = place.unwrap_or_default();
        let separator = if place.contains('?') { '&' } else { '?' };
        let place = format!("{place}{separator}digest={text}");
        let url = self.elsewhere(&self.url("")?, &place)?;
        let kind = HeaderValue::from_static("application/octet-stream");
        let put = Ask { url: Some(url), kind: Some(kind), ..Ask::put(String::new(), bytes) };
        self.expect(put, "an upload", StatusCode::CREATED).await?;
        Ok(descriptor)
    }

    /// What hashes to `wanted`.
    async fn fetch(&mut self, ask: Ask, what: &str, wanted: &Digest) -> Result<Bytes, Error> {
        let bytes = self.expect(ask, what, StatusCode::OK).await?.into_body();
        let found: Digest = Sha256::digest(&bytes).into();
        match found == *wanted {
            true => Ok(bytes),
            false => Err(Error::Digest {
                host: self.host.clone(),
                what: what.to_owned(),
                found: hex::encode(found),
                wanted: hex::encode(wanted),
            }),
        }
    }

    async fn expect(
        &mut self,
        ask: Ask,
        what: &str,
        wanted: StatusCode,
    ) -> Result<Response<Bytes>, Error> {
        let answer = self.ask(&ask).await?;
        let (host, what) = (self.host.clone(), what.to_owned());
        match answer.status() {
            status if status == wanted => Ok(answer),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(match self.login {
                Some(_) => Error::LoginRefused { host, status },
                None => Error::NoLogin { host, status },
            }),
            StatusCode::NOT_FOUND => Err(Error::NotThere { host, what }),
            status => Err(Error::Status { host, what, status, said: said(answer.body()) }),
        }
    }

    /// Ask, log in if that is asked for, and follow to where the bytes are.
    async fn ask(&mut self, ask: &Ask) -> Result<Response<Bytes>, Error> {
        let url = match &ask.url {
            Some(url) => url.clone(),
            None => self.url(&ask.path)?,
        };
        let mut answer = self.send(ask, &url, self.authorization.clone()).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let Some(authorization) = self.log_in(&answer).await? else { return Ok(answer) };
            self.authorization = Some(authorization);
            answer = self.send(ask, &url, self.authorization.clone()).await?;
        }
        let mut url = url;
        for _ in 0..REDIRECTS_MAX {
            if !answer.status().is_redirection() || ask.method != Method::GET {
                break;
            }
            let to = answer.headers().get(LOCATION).and_then(|it| it.to_str().ok());
            url = self.elsewhere(&url, to.unwrap_or_default())?;
            // A store of bytes is somebody else: it does not hear the login.
            answer = self.send(ask, &url, None).await?;
        }
        Ok(answer)
    }

    async fn send(
        &self,
        ask: &Ask,
        url: &Uri,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Bytes>, Error> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = url.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        if let Some(kind) = &ask.kind {
            headers.insert(CONTENT_TYPE, kind.clone());
        }
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let answer = self.client.fetch(request, ask.bytes_max, ask.timeout).await;
        answer.map_err(|fault| Error::Unreachable {
            host: url.authority().map_or_else(|| self.host.clone(), ToString::to_string),
            message: fault.message.to_string(),
        })
    }

    fn url(&self, path: &str) -> Result<Uri, Error> {
        let scheme = if self.https_only { "https" } else { "http" };
        let text = format!("{scheme}://{}/v2/{path}", self.host);
        let host = self.host.clone();
        text.parse().map_err(|_| Error::Redirect { host, to: text })
    }

    /// Where an answer points: never from `https` to `http`.
    fn elsewhere(&self, from: &Uri, to: &str) -> Result<Uri, Error> {
        let joined = url::Url::parse(&from.to_string()).and_then(|it| it.join(to)).ok();
        let fits =
            |it: &url::Url| it.scheme() == "https" || (!self.https_only && it.scheme() == "http");
        let followed = joined.filter(fits).and_then(|it| it.as_str().parse().ok());
        followed.ok_or_else(|| Error::Redirect { host: self.host.clone(), to: to.to_owned() })
    }
}

/// The manifests that are understood, and whatever a blob is.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, */*;q=0.5";

/// One request.
struct Ask {
    method: Method,
    /// Below `/v2/`.
    path: String,
    /// Instead of the path.
    url: Option<Uri>,
    kind: Option<HeaderValue>,
    body: Bytes,
    bytes_max: usize,
    timeout: Duration,
}

impl Ask {
    fn get(path: String, bytes_max: usize, timeout: Duration) -> Self {
        let (method, body) = (Method::GET, Bytes::new());
        Self { method, path, url: None, kind: None, body, bytes_max, timeout }
    }

    fn put(path: String, body: Bytes) -> Self {
        Self { method: Method::PUT, body, ..Self::get(path, ANSWER_BYTES_MAX, PLUGIN_TIMEOUT) }
    }
}

/// The bytes that a manifest is about.
struct Layer {
    digest: Digest,
    size: u64,
}

fn layer_of(manifest: &[u8]) -> Result<Layer, Error> {
    let manifest = ImageManifest::from_reader(manifest);
    let manifest = manifest.map_err(|error| Error::Manifest(error.to_string()))?;
    let [layer] = manifest.layers().as_slice() else { return Err(not_wasm(&manifest)) };
    let kind = layer.media_type().to_string();
    if kind != WASM && !WASM_BEFORE.contains(&kind.as_str()) {
        return Err(not_wasm(&manifest));
    }
    let size = layer.size();
    if size > PLUGIN_BYTES_MAX {
        return Err(Error::TooLarge { size });
    }
    let digest = parse_digest(layer.digest().as_ref());
    let digest = digest.ok_or_else(|| Error::Manifest("its layer has no SHA-256".into()))?;
    Ok(Layer { digest, size })
}

fn not_wasm(manifest: &ImageManifest) -> Error {
    let types: Vec<_> =
        manifest.layers().iter().take(4).map(|it| it.media_type().to_string()).collect();
    Error::NotWasm { count: manifest.layers().len(), types: types.join(", ") }
}

/// What a refusal says, on a few words of one line.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.is_empty() {
        true => text,
        false => format!(": {}", text.chars().take(SAID_CHARS_MAX).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plugin_says_what_it_is() {
        let descriptor = |kind: &str, size: u64| serde_json::json!({ "mediaType": kind, "digest": format!("sha256:{}", "0f".repeat(32)), "size": size });
        let manifest = |layers: &[serde_json::Value]| {
            let config = descriptor(WASM_CONFIG, 2);
            let manifest =
                serde_json::json!({ "schemaVersion": 2, "config": config, "layers": layers });
            layer_of(manifest.to_string().as_bytes())
        };
        assert_eq!(manifest(&[descriptor(WASM, 7)]).ok().map(|it| it.size), Some(7));
        let tar = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 7);
        assert!(matches!(manifest(&[tar]), Err(Error::NotWasm { count: 1, .. })));
        assert!(matches!(manifest(&[]), Err(Error::NotWasm { count: 0, .. })));
        let large = descriptor(WASM, PLUGIN_BYTES_MAX + 1);
        assert!(matches!(manifest(&[large]), Err(Error::TooLarge { .. })));
        assert!(matches!(layer_of(b"<html>"), Err(Error::Manifest(_))));
    }
}
