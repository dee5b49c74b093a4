//! The URL of the database, as libpq has it, and how far its server is trusted.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use crate::client::tls::{system_roots, trust as trust_in};

/// Where the database is and who asks.
#[derive(Clone)]
pub(crate) struct Address {
    pub(super) config: Config,
    pub(super) tls: Tls,
}

/// How connections are secured.
#[derive(Clone)]
pub(super) enum Tls {
    Off(NoTls),
    On(MakeRustlsConnect),
}

/// What is believed of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// That it is whoever answered: `prefer` and `require`.
    Anyone,
    /// That a trusted authority vouches for it: `verify-ca`.
    Authority,
    /// And that it has the name it was called by: `verify-full`.
    Name,
}

/// A server that does not answer is given up after that.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer that is gone without a word is noticed after that.
const SILENCE_MAX: Duration = Duration::from_secs(15);

impl Address {
    /// Read a URL such as `postgres://user:password@host:5432/database?sslmode=verify-full`.
    /// No word of it is repeated in an error: there may be a password in it.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|error| {
            format!(
                "this is not a URL such as `postgres://user@host/database`: {error} \
                 (in a password, what is no letter or digit is written %XX)"
            )
        })?;
        let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
        for (name, value) in url.query_pairs() {
            match &*name {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => roots = Some(folder.join(&*value)),
                _ => rest.push((name.into_owned(), value.into_owned())),
            }
        }
        url.set_query(None);
        if !rest.is_empty() {
            url.query_pairs_mut().extend_pairs(rest);
        }
        // The library reads `+` as itself.
        let text = url.as_str().replace('+', "%20");
        let mut config = Config::from_str(&text).map_err(|error| {
            let told = std::error::Error::source(&error).map(ToString::to_string);
            format!("this is not a URL that PostgreSQL understands: {}", told.unwrap_or_default())
        })?;
        if config.get_hosts().is_empty() {
            return Err("the URL names no host: `postgres://user@host/database`".into());
        }
        let (ssl, trust) = match mode.as_deref() {
            Some("disable") => (SslMode::Disable, Trust::Anyone),
            None | Some("prefer" | "allow") => (SslMode::Prefer, Trust::Anyone),
            // As libpq has it: a root that is given is asked.
            Some("require") if roots.is_none() => (SslMode::Require, Trust::Anyone),
            Some("require" | "verify-ca") => (SslMode::Require, Trust::Authority),
            Some("verify-full") => (SslMode::Require, Trust::Name),
            Some(_) => {
                return Err("sslmode is disable, prefer, require, verify-ca or verify-full".into());
            }
        };
        let tls = match ssl {
            SslMode::Disable => Tls::Off(NoTls),
            _ => Tls::On(MakeRustlsConnect::new(client_config(trust, roots)?)),
        };
        config.ssl_mode(ssl);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.keepalives_idle(SILENCE_MAX).tcp_user_timeout(SILENCE_MAX);
        Ok(Self { config, tls })
    }
}

/// Host, port and database: no user, no password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        f.write_str("postgres://")?;
        for (at, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{}", port(at))?,
                Host::Unix(path) => write!(f, "{comma}{}:{}", path.display(), port(at))?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn client_config(trust: Trust, roots: Option<PathBuf>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match roots {
        None => system_roots(),
        Some(path) => {
            let in_file = |error: String| format!("sslrootcert {}: {error}", path.display());
            let pem = std::fs::read_to_string(&path).map_err(|it| in_file(it.to_string()))?;
            Arc::new(trust_in(&pem).map_err(in_file)?)
        }
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3");
    if trust == Trust::Name {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let authority = match trust {
        Trust::Anyone => None,
        _ => Some(
            WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|error| format!("sslrootcert: {error}"))?,
        ),
    };
    let verifier = Arc::new(Lenient { authority, provider });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Asks for less than a name: what `prefer`, `require` and `verify-ca` mean.
#[derive(Debug)]
struct Lenient {
    authority: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        // The name is looked at last: whoever has only another name is vouched for.
        match authority.verify_server_cert(certificate, between, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, String> {
        Address::parse(text, Path::new("/nowhere"))
    }

    #[test]
    fn an_address_is_shown_without_who_asks() {
        let address = parse("postgres://me:hush@db.example:6432/hooks?sslmode=disable");
        let address = address.expect("an address");
        assert_eq!(address.to_string(), "postgres://db.example:6432/hooks");
        assert_eq!(format!("{address:?}"), "Address(postgres://db.example:6432/hooks)");
        let socket = parse("postgres://me@%2Frun%2Fpostgresql/hooks?application_name=a%20b");
        assert_eq!(
            socket.expect("an address").to_string(),
            "postgres:///run/postgresql:5432/hooks"
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, wanted) in [
            ("postgres://me:hush@db/hooks?sslmode=maybe", "sslmode is disable"),
            ("postgres://me:hush@db:port/hooks", "port"),
            ("postgres://me:hush@db/hooks?color=blue", "color"),
            ("postgres://me:hush@db/hooks?sslmode=verify-full&sslrootcert=no.pem", "no.pem"),
            ("postgres:///hooks", "no host"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(wanted) && !error.contains("hush"), "{text}: {error}");
        }
    }
}
