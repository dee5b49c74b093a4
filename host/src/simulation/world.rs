//! What is outside the engine: who sends, who receives, and the store's disk. Everything
//! that happens is drawn from one seed and told to the oracle.

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::Request;
use http_body_util::{BodyExt as _, Full};

use super::endpoint::{Endpoint, Mood, Settings};
use super::oracle::{self, Ended, Oracle, Sent, Wrong};
use super::{Figures, Mistake, time};
use crate::attempt::{Fault, Response};

/// Who sends, one event after the other.
pub(super) const SENDERS: usize = 3;

/// Of each sender.
const SUBJECTS: usize = 4;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Of one seed, on one thread.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) disk: Disk,
    /// The disk has refused something since this process began.
    pub(super) disk_was_bad: bool,
    /// Nothing more is sent.
    pub(super) stopping: bool,
    pub(super) mistake: Option<Mistake>,
    pub(super) oracle: Oracle,
    pub(super) figures: Figures,
    /// What happened, in words: two worlds are one when theirs is.
    pub(super) trace: Vec<String>,
    events: u64,
    /// What comes of a request that an earlier process has made is nobody's affair.
    process: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    Well,
    Full,
    Broken,
}

/// An event that a sender is about to send.
pub(super) struct Next {
    pub(super) after: Duration,
    pub(super) sent: Sent,
}

/// From now on this thread has a world.
pub(super) fn begin(world: World) {
    WORLD.set(Some(world));
}

pub(super) fn end() -> World {
    WORLD.take().expect("it has begun")
}

/// What is done with the world of this thread, at this moment.
pub(super) fn with<T>(act: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(|it| {
        let world = it.as_mut().expect("it has begun");
        world.oracle.is(time::moment());
        act(world)
    })
}

impl World {
    pub(super) fn new(seed: u64, mistake: Option<Mistake>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let endpoints = 0..rng.usize(1..5);
        let endpoints: Vec<_> = endpoints.map(|at| Endpoint::any(at, &mut rng)).collect();
        Self {
            rng,
            oracle: Oracle::new(&endpoints),
            endpoints,
            disk: Disk::Well,
            disk_was_bad: false,
            stopping: false,
            mistake,
            figures: Figures::default(),
            trace: Vec::new(),
            events: 0,
            process: 0,
        }
    }

    /// The files that it makes, without a store yet.
    pub(super) fn write(&self, folder: &Path) {
        let hub = format!(
            "[delivery]\nallow_networks = [\"127.0.0.0/8\"]\n\n[[token]]\nname = \"sim\"\n\
             secret_sha256 = \"{}\"\nscopes = [\"ingest\"]\n",
            "5".repeat(64)
        );
        for kind in ["routes", "sources"] {
            std::fs::create_dir_all(folder.join(kind)).expect("a folder");
        }
        std::fs::write(folder.join("plugpost.toml"), hub).expect("a file");
        std::fs::write(folder.join("sources/sim.toml"), "tokens = [\"sim\"]\n").expect("a file");
        self.endpoints.iter().for_each(|it| it.write(folder, self.mistake));
    }

    pub(super) fn note(&mut self, what: &str) {
        self.trace.push(format!("{:.6?} {what}", time::moment().passed));
    }

    /// It happened once more.
    pub(super) fn count(&mut self, what: &'static str) {
        self.figures.count(what, 1);
        self.note(what);
    }

    pub(super) fn endpoint(&self, name: &str) -> Option<usize> {
        self.endpoints.iter().position(|it| it.name == name)
    }

    pub(super) fn next_event(&mut self, sender: usize) -> Next {
        let after = match self.rng.u8(..20) {
            0 => self.rng.u64(1_000..10_000),
            _ => self.rng.u64(1..400),
        };
        self.events += 1;
        let subject =
            (self.rng.u8(..8) > 0).then(|| format!("{sender}-{}", self.rng.usize(..SUBJECTS)));
        let bytes = if self.rng.u8(..30) == 0 { 9_000 } else { self.rng.usize(2..500) };
        let mut body = format!("{} ", self.events).into_bytes();
        body.resize(body.len() + bytes, b'x');
        Next {
            after: Duration::from_millis(after),
            sent: Sent { subject, body: body.into(), place: Some(self.events) },
        }
    }

    pub(super) fn process_has_ended(&mut self) {
        self.process += 1;
        (self.stopping, self.disk, self.disk_was_bad) = (false, Disk::Well, false);
        self.oracle.process_has_ended();
        self.note("the process has ended");
    }

    /// From now on nothing goes wrong: whoever has left is back, and answers.
    pub(super) fn be_well(&mut self) {
        self.disk = Disk::Well;
        for (at, it) in self.endpoints.iter_mut().enumerate() {
            (it.mood, it.present) = (Mood::WELL, true);
            self.oracle.configured(at, &it.settings, true);
        }
    }

    /// An endpoint's file is to say something else.
    pub(super) fn change_a_file(&mut self, folder: &Path) {
        let at = self.rng.usize(..self.endpoints.len());
        if self.rng.u8(..4) == 0 {
            self.endpoints[at].present ^= true;
            let present = self.endpoints[at].present;
            self.count(if present { "a route came back" } else { "a route was removed" });
        } else {
            self.endpoints[at].settings = Arc::new(Settings::any(&mut self.rng));
            self.count("a route was changed");
        }
        self.endpoints[at].write(folder, self.mistake);
    }

    /// What is in the files is in force.
    pub(super) fn reloaded(&mut self) {
        for (at, it) in self.endpoints.iter().enumerate() {
            self.oracle.configured(at, &it.settings, it.present);
        }
    }
}

// ---- who receives

/// What an endpoint answers to a request.
pub(super) fn answer(
    request: &Request<Full<Bytes>>,
) -> impl Future<Output = Result<Response, Fault>> + use<> {
    let name = request.uri().path().trim_start_matches('/').to_owned();
    let id = request.headers().get("webhook-id").and_then(|it| it.to_str().ok());
    let id = id.unwrap_or_default().to_owned();
    let body = request.body().clone();
    async move {
        let body = body.collect().await.expect("it is in memory").to_bytes();
        let (process, endpoint, mood, timeout) = with(|it| {
            let (endpoint, mood, timeout) = it.begins(&name, &id, body);
            (it.process, endpoint, mood, timeout)
        });
        let said = time::within(timeout, mood.answer()).await;
        let said = said.unwrap_or_else(|| Err(Fault::retry("timeout", "simulated")));
        with(|it| match it.process == process {
            true => it.ends(endpoint, &id, said),
            false => said,
        })
    }
}

impl World {
    fn begins(&mut self, name: &str, event: &str, body: Bytes) -> (usize, Mood, Duration) {
        let endpoint = self.endpoint(name).expect("one of ours");
        let mood = self.endpoints[endpoint].mood.next(&mut self.rng);
        self.count("attempt");
        self.count(mood.name());
        self.note(&format!("{event} to {name}"));
        self.oracle.begins(oracle::Request { endpoint, event: event.into(), body });
        (endpoint, mood, self.endpoints[endpoint].settings.timeout)
    }

    fn ends(
        &mut self,
        endpoint: usize,
        event: &str,
        said: Result<Response, Fault>,
    ) -> Result<Response, Fault> {
        let ended = match &said {
            Ok(it) if (200..300).contains(&it.status) => Ended::Taken,
            Ok(it) => Ended::Failed { status: Some(it.status), retry_after: it.retry_after },
            Err(_) => Ended::Failed { status: None, retry_after: None },
        };
        self.oracle.ends(endpoint, event, ended);
        self.note(&format!("{event} to {endpoint}: {ended:?}"));
        if ended != Ended::Taken && self.errs(Mistake::Mishears) {
            return Ok(Response { status: 204, retry_after: None, excerpt: Bytes::new() });
        }
        said
    }

    /// Is that mistake made now?
    pub(super) fn errs(&mut self, mistake: Mistake) -> bool {
        let always = mistake == Mistake::Stalls;
        self.mistake == Some(mistake) && (always || self.rng.u8(..4) == 0)
    }

    /// The store has refused something.
    pub(super) fn refused(&mut self, error: &impl std::fmt::Display) {
        match self.disk_was_bad {
            true => self.count("refused"),
            false => self.oracle.wrong(Wrong::Refused, error.to_string()),
        }
    }
}
