//! Whom a client trusts and who it is: certificates and keys from PEM, made into
//! what TLS needs. It dials nothing.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

/// One side of TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    /// Trusted instead of the system's certificates.
    pub(crate) trust: Option<Arc<RootCertStore>>,
    /// Shown to a server that asks for it.
    pub(crate) identity: Option<Arc<SingleCertAndKey>>,
}

/// Why a certificate and a key are no identity.
pub(crate) enum Unfit {
    Certificate(String),
    Key(String),
}

impl Tls {
    pub(super) fn config(&self) -> ClientConfig {
        let roots = self.trust.as_ref().unwrap_or(&SYSTEM);
        let config = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots.clone());
        match &self.identity {
            Some(identity) => config.with_client_cert_resolver(identity.clone()),
            None => config.with_no_client_auth(),
        }
    }
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// The system's certificates, or Mozilla's where there are none. Read once.
static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Arc::new(roots)
});

/// Whom everybody on this machine trusts.
pub(crate) fn system_roots() -> Arc<RootCertStore> {
    SYSTEM.clone()
}

/// The certificates to trust, from PEM.
pub(crate) fn trust(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(pem)?) {
        roots
            .add(certificate)
            .map_err(|error| format!("certificate {number} of it cannot be used: {error}"))?;
    }
    Ok(roots)
}

/// Who the client is: its certificate first, then those between it and the root.
pub(crate) fn identity(chain: &str, key: &str) -> Result<SingleCertAndKey, Unfit> {
    let chain = certificates(chain).map_err(Unfit::Certificate)?;
    // The library's words could repeat what it read.
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| {
        let message = "this is no private key in PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted";
        Unfit::Key(message.into())
    })?;
    match CertifiedKey::from_der(chain, key, &PROVIDER) {
        Ok(identity) => Ok(identity.into()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Unfit::Key("the key does not belong to the certificate".into()))
        }
        Err(error @ rustls::Error::InvalidCertificate(_)) => {
            Err(Unfit::Certificate(format!("the certificate cannot be used: {error}")))
        }
        Err(_) => {
            let message =
                "the key cannot be used: RSA of 2048 bits and more, P-256, P-384, Ed25519";
            Err(Unfit::Key(message.into()))
        }
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => {
            Err("this is no certificate in PEM: -----BEGIN CERTIFICATE----- and what follows"
                .into())
        }
    }
}
