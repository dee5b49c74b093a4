//! `plugpost send`: an event to a running engine, from a terminal or a script.

use std::fs;
use std::io::Read as _;

use anyhow::Context as _;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;

use super::remote::request_any;
use super::{block_on, say};
use crate::clock;

/// Send an event to a running engine
#[derive(Args)]
pub(super) struct Send {
    /// The event type, such as order.created; with --in, the rest of the path
    event_type: String,
    /// A file with the data; - for standard input
    #[arg(long, default_value = "-")]
    data: String,
    /// The media type of the data
    #[arg(long, default_value = "application/json")]
    content_type: String,
    /// Send to this source's door instead of /events
    #[arg(long = "in", value_name = "SOURCE")]
    source: Option<String>,
    /// The id of the resource the event is about (only without --in)
    #[arg(long, conflicts_with = "source")]
    subject: Option<String>,
    /// A further header, as `name: value`
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// The public listener
    #[arg(
        long,
        default_value = "http://127.0.0.1:8080",
        env = "PLUGPOST_PUBLIC",
        value_name = "URL"
    )]
    public: String,
    /// A token with the scope ingest
    #[arg(long, env = "PLUGPOST_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl Send {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let (status, body) = block_on(request_any(self.request()?))?;
        say(String::from_utf8_lossy(&body))?;
        Ok(status.is_success())
    }

    fn request(&self) -> anyhow::Result<Request<Full<bytes::Bytes>>> {
        let public = self.public.trim_end_matches('/');
        let url = match &self.source {
            Some(source) => format!("{public}/in/{source}/{}", self.event_type),
            None => format!("{public}/events"),
        };
        let mut request = Request::post(&url).body(Full::from(self.read_data()?))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type.parse()?);
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
        }
        if self.source.is_none() {
            let id = clock::id_text(clock::first_id_at(clock::now()) | fastrand::u64(..1 << 20));
            headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
            headers.insert("ce-id", id.parse()?);
            headers.insert("ce-source", HeaderValue::from_static("plugpost-send"));
            headers.insert("ce-type", self.event_type.parse()?);
            if let Some(subject) = &self.subject {
                headers.insert("ce-subject", subject.parse()?);
            }
        }
        for header in &self.headers {
            let (name, value) = header
                .split_once(':')
                .with_context(|| format!("{header:?} is not `name: value`"))?;
            headers.insert(name.trim().parse::<HeaderName>()?, value.trim().parse()?);
        }
        Ok(request)
    }

    fn read_data(&self) -> anyhow::Result<Vec<u8>> {
        let mut data = Vec::new();
        match self.data.as_str() {
            "-" => drop(std::io::stdin().read_to_end(&mut data)?),
            file => data = fs::read(file).with_context(|| format!("reading {file}"))?,
        }
        Ok(data)
    }
}
