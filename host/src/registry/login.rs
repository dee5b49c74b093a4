//! Logging in to a registry: Basic, or a token from where the registry says
//! (the distribution spec's Bearer challenge).

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Response};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Ask, Error, MANIFEST_TIMEOUT, Registry, said};

/// Who we are to a registry.
pub(crate) struct Login {
    pub(crate) username: Zeroizing<String>,
    pub(crate) password: Zeroizing<String>,
}

/// A token's answer: some registries' tokens have several kilobytes.
const TOKEN_BYTES_MAX: usize = 64 << 10;

impl Registry<'_> {
    /// The answer to a 401; none when there is nothing to say.
    pub(super) async fn log_in(
        &self,
        refusal: &Response<Bytes>,
    ) -> Result<Option<HeaderValue>, Error> {
        let challenges = refusal.headers().get_all(WWW_AUTHENTICATE).iter();
        let text: Vec<_> = challenges.filter_map(|it| it.to_str().ok()).collect();
        let text = text.join(", ");
        let unknown = || Error::Challenge { host: self.host.clone(), challenge: text.clone() };
        let challenges = http_auth::parse_challenges(&text).map_err(|_| unknown())?;
        let of = |scheme: &str| challenges.iter().find(|it| it.scheme.eq_ignore_ascii_case(scheme));
        if let Some(challenge) = of("bearer") {
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|it| it.0.eq_ignore_ascii_case(name));
                found.map(|it| it.1.to_unescaped())
            };
            let realm = parameter("realm").ok_or_else(unknown)?;
            let mut url = url::Url::parse(&realm).map_err(|_| unknown())?;
            for name in ["service", "scope"] {
                if let Some(value) = parameter(name) {
                    url.query_pairs_mut().append_pair(name, &value);
                }
            }
            return self.token(&url).await.map(Some);
        }
        match of("basic") {
            Some(_) => Ok(self.login.map(Login::basic).transpose().map_err(|_| unknown())?),
            None => Err(unknown()),
        }
    }

    /// A token for what was asked, with the login where there is one.
    async fn token(&self, realm: &url::Url) -> Result<HeaderValue, Error> {
        let realm = self.elsewhere(&self.url("")?, realm.as_str())?;
        let get = Ask::get(String::new(), TOKEN_BYTES_MAX, MANIFEST_TIMEOUT);
        let host = || realm.host().unwrap_or_default().to_owned();
        let failed =
            |status, said| Error::Status { host: host(), what: "a token".into(), status, said };
        let login = self.login.map(Login::basic).transpose();
        let login = login.map_err(|_| failed(http::StatusCode::BAD_REQUEST, String::new()))?;
        let answer = self.send(&get, &realm, login).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(match self.login {
                Some(_) if status.is_client_error() => {
                    Error::LoginRefused { host: self.host.clone(), status }
                }
                None if status.is_client_error() => {
                    Error::NoLogin { host: self.host.clone(), status }
                }
                _ => failed(status, said(answer.body())),
            });
        }
        let answer: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let token = answer["token"].as_str().or_else(|| answer["access_token"].as_str());
        let header = token.and_then(|it| HeaderValue::from_str(&format!("Bearer {it}")).ok());
        let mut header =
            header.ok_or_else(|| failed(status, " with an answer that has none".into()))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

impl Login {
    fn basic(&self) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        let Self { username, password } = self;
        let text = Zeroizing::new(format!("{}:{}", username.as_str(), password.as_str()));
        let mut header =
            HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(text.as_bytes())))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}
