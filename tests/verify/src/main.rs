//! Verifies messages with the receivers' own public libraries. A program of its
//! own, so that what those libraries depend on is not built into the tests.
//!
//! Reads one JSON object a line, `{"library": "svix" | "standardwebhooks",
//! "secret": "whsec_…", "headers": {…}, "body": "…"}`, and answers each with a
//! line: `ok`, or why not.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    library: String,
    secret: String,
    headers: BTreeMap<String, String>,
    body: String,
}

fn main() -> io::Result<()> {
    let mut answers = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        match verify(&line?) {
            Ok(()) => writeln!(answers, "ok")?,
            Err(error) => writeln!(answers, "{error}")?,
        }
        answers.flush()?;
    }
    Ok(())
}

fn verify(line: &str) -> Result<(), Box<dyn std::error::Error>> {
    let Message { library, secret, headers, body } = serde_json::from_str(line)?;
    let mut map = HeaderMap::new();
    for (name, value) in &headers {
        map.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    match library.as_str() {
        "svix" => svix::webhooks::Webhook::new(&secret)?.verify(body.as_bytes(), &map)?,
        "standardwebhooks" => {
            standardwebhooks::Webhook::new(&secret)?.verify(body.as_bytes(), &map)?;
        }
        other => return Err(format!("there is no library {other:?}").into()),
    }
    Ok(())
}
