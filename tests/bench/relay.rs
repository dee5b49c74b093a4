//! What Plugpost is measured against: hyper in, hyper out, nothing between. It
//! answers when the endpoint has answered.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::process::Process;

type Pool = Client<HttpConnector, Full<Bytes>>;

/// Start this program again as the relay.
pub(crate) fn start(ports: &[u16]) -> (Process, SocketAddr) {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .arg("relay")
        .args(ports.iter().map(u16::to_string))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the relay starts");
    let stdout = child.stdout.take().expect("a pipe");
    let line = BufReader::new(stdout).lines().next().expect("a line").expect("text");
    (Process(child), line.parse().expect("an address"))
}

/// Be the relay: one endpoint for each port.
pub(crate) fn run(ports: &[String]) {
    let endpoints: Arc<Vec<String>> =
        Arc::new(ports.iter().map(|port| format!("http://127.0.0.1:{port}/")).collect());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client: Pool = Client::builder(TokioExecutor::new()).build(connector);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.set_nodelay(true);
            let (client, endpoints) = (client.clone(), endpoints.clone());
            let service =
                service_fn(move |request| forward(client.clone(), endpoints.clone(), request));
            tokio::spawn(async move {
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

async fn forward(
    client: Pool,
    endpoints: Arc<Vec<String>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let one = path.strip_prefix("/in/s").and_then(|it| it.split('/').next()?.parse::<usize>().ok());
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let send = async |endpoint: &String| {
        let request = Request::post(endpoint)
            .header("content-type", "application/json")
            .body(Full::new(body.clone()))
            .expect("a request");
        let response = client.request(request).await.expect("the receiver answers");
        response.into_body().collect().await.expect("an answer");
    };
    match one {
        Some(one) => send(&endpoints[one % endpoints.len()]).await,
        None => drop(join_all(endpoints.iter().map(send)).await),
    }
    Ok(Response::new(Full::default()))
}
