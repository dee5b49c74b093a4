//! Receivers over real TLS: certificates made for the test, servers that speak
//! HTTP/1, HTTP/2 or anything else once the handshake is done.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::receiver::Receiver;

/// Who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For a server of these names or addresses.
    pub(crate) fn server(&self, names: &[&str]) -> Identity {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }

    /// For a client.
    pub(crate) fn client(&self, name: &str) -> Identity {
        self.issue(&[name], ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    pub(crate) fn expired(&self, names: &[&str]) -> Identity {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth, |it| {
            it.not_before = date_time_ymd(2019, 1, 1);
            it.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    pub(crate) fn not_yet_valid(&self, names: &[&str]) -> Identity {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth, |it| {
            it.not_before = date_time_ymd(3000, 1, 1);
        })
    }

    fn issue(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let names: Vec<_> = names.iter().map(|it| (*it).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "issued");
        params.extended_key_usages = vec![usage];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM");
        roots.add(certificate).expect("a certificate");
        Arc::new(roots)
    }
}

impl Identity {
    /// A server that offers these protocols.
    pub(crate) fn serving(&self, protocols: &[&str]) -> ServerConfig {
        self.config(protocols, None, true)
    }

    /// And shows clients of this authority in; others too unless it insists.
    pub(crate) fn knowing(&self, clients: &Authority, insists: bool) -> ServerConfig {
        self.config(&["http/1.1"], Some(clients), insists)
    }

    fn config(
        &self,
        protocols: &[&str],
        clients: Option<&Authority>,
        insists: bool,
    ) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let config = match clients {
            Some(clients) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(clients.roots(), provider);
                let verifier = match insists {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                config.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
            None => config.with_no_client_auth(),
        };
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM");
        let mut config =
            config.with_single_cert(vec![certificate.expect("PEM")], key).expect("an identity");
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        config
    }
}

/// One after the handshake.
pub(crate) type Stream = TlsStream<TcpStream>;

/// A server on a port of its own, until it is dropped.
pub(crate) struct Secure {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    handshakes: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

impl Secure {
    /// What becomes of each connection is this function's affair.
    pub(crate) fn start<F>(
        config: ServerConfig,
        conversation: impl Fn(Stream) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::serve(config, move |stream, _| conversation(stream))
    }

    /// In front of a receiver that knows nothing of TLS.
    pub(crate) fn before(receiver: &Receiver, config: ServerConfig) -> Self {
        let address = receiver.address;
        Self::start(config, move |mut stream| async move {
            let mut plain = TcpStream::connect(address).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut plain).await.map(drop)
        })
    }

    /// The same at an address of its own: port 443 is for root, or for whoever
    /// `net.ipv4.ip_unprivileged_port_start` lets in.
    pub(crate) fn before_at(receiver: &Receiver, config: ServerConfig, at: SocketAddr) -> Self {
        let address = receiver.address;
        Self::serve_at(at, config, move |mut stream, _| async move {
            let mut plain = TcpStream::connect(address).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut plain).await.map(drop)
        })
    }

    /// HTTP/2 as hyper speaks it: 200 to everything whose body has come.
    pub(crate) fn http2(config: ServerConfig) -> Self {
        Self::serve(config, |stream, counts| {
            let service =
                hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let counts = counts.clone();
                    async move {
                        request.into_body().collect().await?;
                        counts.requests.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, hyper::Error>(http::Response::new(Empty::<Bytes>::new()))
                    }
                });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            async { connection.await.map_err(io::Error::other) }
        })
    }

    fn serve<F>(
        config: ServerConfig,
        conversation: impl Fn(Stream, Arc<Counts>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::serve_at(SocketAddr::from(([127, 0, 0, 1], 0)), config, conversation)
    }

    fn serve_at<F>(
        at: SocketAddr,
        config: ServerConfig,
        conversation: impl Fn(Stream, Arc<Counts>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = RUNTIME.block_on(TcpListener::bind(at)).expect("the port");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (counts, conversation) = (Arc::<Counts>::default(), Arc::new(conversation));
        let of_task = counts.clone();
        let task = RUNTIME.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (acceptor, counts) = (acceptor.clone(), of_task.clone());
                let conversation = conversation.clone();
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    counts.handshakes.fetch_add(1, Ordering::SeqCst);
                    counts.open.fetch_add(1, Ordering::SeqCst);
                    let _ = conversation(stream, counts.clone()).await;
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, counts, task }
    }

    /// The URL of a path on this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Connections whose handshake succeeded.
    pub(crate) fn handshakes(&self) -> usize {
        self.counts.handshakes.load(Ordering::SeqCst)
    }

    /// Connections that are there now.
    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// Requests that [`http2`](Self::http2) answered.
    pub(crate) fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
    }
}
