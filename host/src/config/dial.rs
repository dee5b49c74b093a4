//! How an endpoint is reached and asked: `[endpoint.tls]`, `[endpoint.proxy]` and
//! `[endpoint.oauth2]`. What the secrets hold is looked at elsewhere.

use std::path::Path;

use http::Uri;

use super::SecretFrom;
use super::document::{Marked, Position, Table};
use super::route::parse_url;
use super::secret;

/// What a file says of dialling.
#[derive(Debug, Default)]
pub(crate) struct DialKeys {
    pub(crate) tls: TlsKeys,
    pub(crate) proxy: Option<ProxyKeys>,
    pub(crate) oauth2: Option<OAuth2Keys>,
}

/// Certificates and a key, all PEM.
#[derive(Debug, Default)]
pub(crate) struct TlsKeys {
    /// Trusted instead of the system's.
    pub(crate) ca: Option<SecretFrom>,
    /// What the client shows: its certificate and those behind it, and its key.
    pub(crate) identity: Option<(SecretFrom, SecretFrom)>,
}

/// A proxy that is asked to CONNECT.
#[derive(Debug)]
pub(crate) struct ProxyKeys {
    pub(crate) uri: Uri,
    /// Username and password.
    pub(crate) login: Option<(String, SecretFrom)>,
}

/// What a token is asked for with.
#[derive(Debug)]
pub(crate) struct OAuth2Keys {
    pub(crate) token_url: Uri,
    pub(crate) client_id: String,
    pub(crate) client_secret: SecretFrom,
    /// The client's secret goes in the form, not as Basic.
    pub(crate) in_body: bool,
    /// Besides `grant_type`, in order: scope, audience and what else the server wants.
    pub(crate) parameters: Vec<(String, String)>,
    /// Towards the token endpoint.
    pub(crate) tls: TlsKeys,
}

impl DialKeys {
    pub(super) fn read(endpoint: &Table<'_, '_>, folder: &Path) -> Self {
        Self {
            tls: TlsKeys::read(endpoint, folder),
            proxy: ProxyKeys::of(endpoint, folder),
            oauth2: endpoint.table("oauth2").and_then(|it| OAuth2Keys::read(&it, folder)),
        }
    }

    /// Everything that was read from elsewhere.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &SecretFrom> {
        let tls = [Some(&self.tls), self.oauth2.as_ref().map(|it| &it.tls)];
        let password = self.proxy.iter().flat_map(|it| &it.login).map(|(_, password)| password);
        let client = self.oauth2.iter().map(|it| &it.client_secret);
        tls.into_iter().flatten().flat_map(TlsKeys::secrets).chain(password).chain(client)
    }
}

impl TlsKeys {
    fn read(above: &Table<'_, '_>, folder: &Path) -> Self {
        let Some(Marked { value: table, at }) = above.table("tls") else { return Self::default() };
        let certificate = origin(&table, "certificate", folder);
        let key = origin(&table, "key", folder);
        if table.has("certificate") != table.has("key") {
            table.problem(at, "a client shows a certificate and has its key: both or neither");
        }
        Self { ca: origin(&table, "ca", folder), identity: certificate.zip(key) }
    }

    fn secrets(&self) -> impl Iterator<Item = &SecretFrom> {
        self.ca.iter().chain(self.identity.iter().flat_map(|(certificate, key)| [certificate, key]))
    }
}

impl ProxyKeys {
    fn of(endpoint: &Table<'_, '_>, folder: &Path) -> Option<Self> {
        if let Some(at) = endpoint.position_of("proxy")
            && !endpoint.is_table("proxy")
        {
            endpoint.problem(at, "a proxy is a table: proxy.url = \"http://proxy.example:3128\"");
            return None;
        }
        Self::read(&endpoint.table("proxy")?, folder)
    }

    fn read(proxy: &Marked<Table<'_, '_>>, folder: &Path) -> Option<Self> {
        let Marked { value: table, at } = proxy;
        let url = required(table, *at, "url", "http://proxy.example:3128");
        let uri = url.and_then(|it| parsed(table, it, parse_proxy));
        let username = table.parsed("username", |text| match text.contains(':') {
            false => Ok(text.to_owned()),
            true => Err("a username has no colon (RFC 7617)".into()),
        });
        let password = origin(table, "password", folder);
        if table.has("username") != table.has("password") {
            let message =
                "a proxy is given a username and a password = { env = \"NAME\" }, or neither";
            table.problem(*at, message);
        }
        Some(Self { uri: uri?, login: username.map(|it| it.value).zip(password) })
    }
}

impl OAuth2Keys {
    fn read(oauth2: &Marked<Table<'_, '_>>, folder: &Path) -> Option<Self> {
        let Marked { value: table, at } = oauth2;
        let token_url = required(table, *at, "token_url", "https://login.example.com/token");
        let token_url = token_url.and_then(|it| parsed(table, it, parse_token_url));
        let client_id = required(table, *at, "client_id", "plugpost");
        let client_secret = origin(table, "client_secret", folder);
        if !table.has("client_secret") {
            let message = "oauth2 has a client_secret = { env = \"NAME\" } or { file = \"path\" }";
            table.problem(*at, message);
        }
        let in_body = table.parsed("auth", |text| match text {
            "basic" => Ok(false),
            "body" => Ok(true),
            _ => Err(format!("`{text}`: the client's secret goes as `basic` or in the `body`")),
        });
        Some(Self {
            parameters: parameters(table),
            tls: TlsKeys::read(table, folder),
            in_body: in_body.is_some_and(|it| it.value),
            token_url: token_url?,
            client_id: client_id?.value,
            client_secret: client_secret?,
        })
    }
}

fn parameters(oauth2: &Table<'_, '_>) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    if let Some(scopes) = oauth2.strings("scope") {
        let scopes: Vec<_> = scopes.into_iter().map(|it| it.value).collect();
        parameters.push(("scope".to_owned(), scopes.join(" ")));
    }
    if let Some(audience) = oauth2.string("audience") {
        parameters.push(("audience".to_owned(), audience.value));
    }
    if let Some(more) = oauth2.table("params") {
        for Marked { value: name, at } in more.value.keys() {
            if OURS.contains(&name.as_str()) {
                let message = format!("`{name}` is no further parameter: it is a key of oauth2");
                more.value.problem(at, message);
            } else if let Some(value) = more.value.string(&name) {
                parameters.push((name, value.value));
            }
        }
    }
    parameters
}

/// What a token's request has already.
const OURS: [&str; 5] = ["grant_type", "scope", "audience", "client_id", "client_secret"];

fn origin(table: &Table<'_, '_>, key: &str, folder: &Path) -> Option<SecretFrom> {
    if let Some(at) = table.position_of(key)
        && !table.is_table(key)
    {
        let message = format!(
            "{key} = {{ env = \"NAME\" }} or {{ file = \"path\" }}: it does not stand here"
        );
        table.problem(at, message);
        return None;
    }
    secret::read(&table.table(key)?, folder)
}

fn required(
    table: &Table<'_, '_>,
    at: Position,
    key: &str,
    example: &str,
) -> Option<Marked<String>> {
    if !table.has(key) {
        table.problem(at, format!("here is no {key}: {key} = \"{example}\""));
    }
    table.string(key).filter(|it| {
        if it.value.is_empty() {
            table.problem(it.at, format!("`{key}` is empty"));
        }
        !it.value.is_empty()
    })
}

fn parsed<T>(
    table: &Table<'_, '_>,
    text: Marked<String>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    parse(&text.value).map_err(|message| table.problem(text.at, message)).ok()
}

fn parse_token_url(text: &str) -> Result<Uri, String> {
    let parsed = parse_url(text).map_err(|message| message.replace(" to deliver to", ""));
    parsed.map_err(|message| message.replace("an [[auth]]", "client_id and client_secret"))
}

fn parse_proxy(text: &str) -> Result<Uri, String> {
    let parsed = parse_url(text).map_err(|message| message.replace(" to deliver to", ""));
    let uri = parsed.map_err(|message| message.replace("an [[auth]]", "username and password"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!(
            "`{text}`: a proxy is reached by http://; what is https stays closed to it"
        ));
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(format!("`{text}`: a proxy has a host and a port, and no path"));
    }
    Ok(uri)
}
