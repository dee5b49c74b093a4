//! `plugpost serve`: the engine on a folder, until it is told to stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use axum::body::Body;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tower_service::Service as _;
use tracing_subscriber::EnvFilter;

use crate::admin;
use crate::allocator;
use crate::engine::Engine;
use crate::ingest;
use crate::reload::Reloader;
use crate::server::Listener;
use crate::snapshot::{Loader, Snapshot};
use crate::traces::Traces;

/// An engine with its listeners, until it is stopped.
pub(super) struct Running {
    engine: Arc<Engine>,
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
}

pub(super) fn run(folder: &Path) -> anyhow::Result<bool> {
    log_to_stderr();
    let mut loader = Loader::new(folder);
    let snapshot = match loader.load() {
        Ok((snapshot, _)) => snapshot,
        Err(problems) => {
            super::check::report(&problems);
            return Ok(false);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let running = start(snapshot, Some(loader)).await?;
        // Before anybody can know that it runs, and stop it.
        let stop = asked_to_stop()?;
        let (public, admin) = (running.public, running.admin);
        super::say(format!("events at http://{public}, questions at http://{admin}"))?;
        stop.await;
        running.stop().await;
        Ok(true)
    })
}

/// Listen for events and for questions; with a loader, for changes too.
pub(super) async fn start(snapshot: Snapshot, loader: Option<Loader>) -> anyhow::Result<Running> {
    let hub = snapshot.hub.clone();
    // Both addresses before the store: a taken port changes nothing.
    let bind = async |address| {
        Listener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
    };
    let public = bind(hub.public).await?;
    let admin = bind(hub.admin).await?;
    let traces = hub.traces.as_ref().map(Traces::to).transpose().context("cannot send traces")?;
    let engine = Engine::start(snapshot, traces.unwrap_or_default())
        .await
        .with_context(|| format!("cannot open the store {}", hub.store))?;

    allocator::give_back();

    let (stop, stopped) = watch::channel(false);
    let addresses = (public.address, admin.address);
    let intake = {
        let engine = engine.clone();
        move |request| ingest::answer(engine.clone(), request)
    };
    let reloader = loader.map(|it| Reloader::start(&engine, it)).transpose()?;
    let router = admin::router(engine.clone(), reloader);
    let questions = move |request: http::Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        async move {
            let Ok(response) = router.call(request.map(Body::new)).await;
            response
        }
    };
    let listeners = vec![
        tokio::spawn(public.serve(intake, stopped.clone())),
        tokio::spawn(admin.serve(questions, stopped)),
    ];
    Ok(Running { engine, public: addresses.0, admin: addresses.1, stop, listeners })
}

impl Running {
    /// Take nothing more in, finish what is under way, write what is known. What
    /// does not finish in time is attempted again at the next start.
    pub(super) async fn stop(self) {
        let deadline = Instant::now() + self.engine.snapshot().hub.stop_timeout;
        tracing::info!("stopping");
        self.engine.stream.close();
        let _ = self.stop.send(true);
        let listeners = self.listeners;
        let quiet = async {
            for listener in listeners {
                let _ = listener.await;
            }
        };
        let _ = timeout_at(deadline, quiet).await;
        self.engine.stop(deadline).await;
    }
}

/// SIGTERM or SIGINT. A second one ends the process at once: nothing that was
/// acknowledged is lost by that either.
pub(super) fn asked_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(1);
        });
    })
}

/// `PLUGPOST_LOG` chooses levels as `RUST_LOG` does elsewhere.
pub(super) fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("PLUGPOST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
