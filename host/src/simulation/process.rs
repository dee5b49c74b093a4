//! One process from its start to its end: senders, a person at the controls, and what
//! the weather does to endpoints, disk and clock.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::endpoint::Mood;
use super::oracle::{Sent, Wrong};
use super::time;
use super::world::{self, Disk, World};
use crate::clock;
use crate::engine::Engine;
use crate::event::Event;
use crate::queue::{Cancelled, NewEvent};
use crate::route::Route;
use crate::snapshot::{Loader, Snapshot};
use crate::traces::Traces;

/// What a process begins with, and what it is to become of it.
pub(super) struct Process {
    pub(super) loader: Arc<Mutex<Loader>>,
    /// It gets nothing more, finds everything well, and ends when nothing waits.
    pub(super) is_last: bool,
}

impl Process {
    /// Until it is killed, which is whoever calls this letting go of it, or has stopped.
    pub(super) async fn live(self) {
        let snapshot = load(&self.loader);
        let engine = Engine::start(snapshot, Traces::default()).await.expect("the store opens");
        if self.is_last {
            return drain(&engine).await;
        }
        for sender in 0..world::SENDERS {
            tokio::spawn(send(engine.clone(), sender));
        }
        tokio::spawn(weather());
        tokio::spawn(person(engine.clone(), self.loader));
        let (lives, gently) = world::with(|it| {
            let lives = Duration::from_millis(it.rng.u64(500..15_000));
            (lives, it.rng.u8(..3) == 0)
        });
        time::sleep(lives).await;
        world::with(|it| it.count(if gently { "stop" } else { "kill" }));
        if gently {
            world::with(|it| it.stopping = true);
            // In true time, of which none passes.
            engine.stop(Instant::now() + Duration::from_secs(600)).await;
            // Whoever was answered hears it.
            time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn load(loader: &Mutex<Loader>) -> Snapshot {
    let loaded = loader.lock().load();
    loaded.map(|(it, _)| it).unwrap_or_else(|it| panic!("the files: {it:?}"))
}

/// Nothing happens any more but that what was promised is kept.
async fn drain(engine: &Arc<Engine>) {
    let routes = routes(engine);
    for (at, route) in &routes {
        world::with(|it| it.oracle.switched(*at, false));
        engine.lanes.switch(route, None).await.expect("the disk is well");
    }
    let by = world::with(|it| it.oracle.drains_by());
    let mut pause = Duration::from_secs(1);
    loop {
        let waiting = engine.queue.waiting().await.expect("the store answers");
        let idle = |view: crate::lane::View| view.in_hand == 0 && view.under_way == 0;
        if waiting.is_empty() && routes.iter().all(|(_, it)| idle(engine.lanes.view(it))) {
            return;
        }
        if time::moment().passed > by {
            let text = format!("{waiting:?} by {by:?}");
            return world::with(|it| it.oracle.wrong(Wrong::Undrained, text));
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_mins(10));
    }
}

/// The routes that are there, by their endpoints, in one order in each world.
fn routes(engine: &Engine) -> Vec<(usize, Arc<Route>)> {
    let names = world::with(|it| it.endpoints.iter().map(|it| it.name.clone()).collect::<Vec<_>>());
    let snapshot = engine.snapshot();
    let route = |(at, name): (usize, &String)| Some((at, snapshot.routes.get(name)?.clone()));
    names.iter().enumerate().filter_map(route).collect()
}

/// One event after the other, as ingest would.
async fn send(engine: Arc<Engine>, sender: usize) {
    loop {
        let next = world::with(|it| it.next_event(sender));
        time::sleep(next.after).await;
        if world::with(|it| it.stopping) {
            return;
        }
        let now = clock::now();
        let Sent { subject, body, .. } = next.sent.clone();
        let event = Arc::new(Event {
            id: engine.queue.next_event_id(now),
            source: "sim".into(),
            event_type: "thing.changed".into(),
            subject: subject.map(Into::into),
            time: now,
            attributes: Vec::new(),
            data: body,
        });
        let snapshot = engine.snapshot();
        let tenant = snapshot.tenant_of(&event.source);
        let routes = snapshot.routes.matching(tenant, &event.source, &event.event_type);
        let deliveries = routes.map(|route| {
            let slot = engine.lanes.admit(route, event.data.len());
            engine.promise(route, &event, slot, now)
        });
        let deliveries: Vec<_> = deliveries.collect();
        let promised: Vec<_> = deliveries.iter().map(|it| it.id).collect();
        let id = event.id.to_string();
        world::with(|it| {
            it.oracle.sent(id.clone(), next.sent);
            for delivery in &deliveries {
                let at = it.endpoint(&delivery.route).expect("one of ours");
                it.oracle.asked(delivery.id, at, id.clone());
            }
        });
        let new = NewEvent { event, duplicate_key: None, deliveries };
        let accepted = engine.queue.accept(vec![new]).await;
        world::with(|it| match accepted {
            Ok(_) => {
                it.count("accepted");
                promised.into_iter().for_each(|id| it.oracle.promised(id));
            }
            Err(error) => it.refused(&error),
        });
    }
}

/// Moods, the disk, the clock: all change.
async fn weather() {
    loop {
        let pause = world::with(|it| Duration::from_millis(it.rng.u64(50..4_000)));
        time::sleep(pause).await;
        world::with(World::change);
    }
}

impl World {
    fn change(&mut self) {
        match self.rng.u8(..12) {
            0 => {
                self.disk = if self.rng.bool() { Disk::Full } else { Disk::Broken };
                self.count(if self.disk == Disk::Full { "disk full" } else { "disk broken" });
            }
            1 | 2 => self.disk = Disk::Well,
            3 => {
                const HOUR_MS: i64 = 3_600_000;
                let seconds = self.rng.i64(-90_000..90_000);
                let now = [0, 0, -HOUR_MS, HOUR_MS, -24 * HOUR_MS, 24 * HOUR_MS, seconds];
                let now = now[self.rng.usize(..now.len())];
                let before = time::set_wall_offset(now);
                match now - before {
                    ..0 => self.count("clock set back"),
                    0 => {}
                    1.. => self.count("clock set forward"),
                }
            }
            _ => {
                let at = self.rng.usize(..self.endpoints.len());
                self.endpoints[at].mood = Mood::any(&mut self.rng);
            }
        }
    }
}

/// Somebody who steers: switches, resends, cancels, changes files.
async fn person(engine: Arc<Engine>, loader: Arc<Mutex<Loader>>) {
    loop {
        let (pause, act, luck) = world::with(|it| {
            let pause = Duration::from_millis(it.rng.u64(200..4_000));
            (pause, it.rng.u8(..10), it.rng.usize(..))
        });
        time::sleep(pause).await;
        match act {
            0..3 => {
                let folder = loader.lock().folder().to_owned();
                reload(&engine, &loader, &folder);
            }
            3..6 => switch(&engine, luck).await,
            6..8 => resend(&engine, luck).await,
            _ => cancel(&engine, luck).await,
        }
    }
}

fn reload(engine: &Engine, loader: &Mutex<Loader>, folder: &Path) {
    world::with(|it| it.change_a_file(folder));
    engine.publish(load(loader));
    world::with(World::reloaded);
}

/// What is off comes on again twice as often.
async fn switch(engine: &Arc<Engine>, luck: usize) {
    let routes = routes(engine);
    let Some(at) = luck.checked_rem(routes.len()) else { return };
    let (endpoint, route) = &routes[at];
    let off = luck.is_multiple_of(3);
    // It is so from now on, also before it is on disk.
    world::with(|it| {
        it.count(if off { "switched off" } else { "switched on" });
        it.oracle.switched(*endpoint, off);
    });
    if let Err(error) = engine.lanes.switch(route, off.then_some("for a while")).await {
        world::with(|it| it.refused(&error));
    }
}

async fn resend(engine: &Arc<Engine>, luck: usize) {
    let Some((delivery, endpoint, event)) = world::with(|it| it.oracle.some_delivery(luck)) else {
        return;
    };
    let as_new = luck.is_multiple_of(2);
    world::with(|it| match as_new {
        true => it.oracle.copy_asked(),
        false => it.oracle.resend_asked(delivery),
    });
    match engine.queue.resend(delivery, as_new, clock::now()).await {
        Ok(resent) => world::with(|it| {
            it.count(if as_new { "resent as new" } else { "resent" });
            let id = resent.event.to_string();
            if as_new {
                it.oracle.copied(&event, id.clone());
            }
            it.oracle.asked(resent.delivery, endpoint, id);
            it.oracle.promised(resent.delivery);
        }),
        Err(error) => world::with(|it| it.refused(&error)),
    }
}

async fn cancel(engine: &Arc<Engine>, luck: usize) {
    let Some((delivery, ..)) = world::with(|it| it.oracle.some_delivery(luck)) else { return };
    match engine.queue.cancel(delivery, clock::now()).await {
        Ok(Cancelled::Done) => world::with(|it| {
            it.count("cancelled");
            it.oracle.cancelled(delivery);
        }),
        Ok(Cancelled::InHand | Cancelled::Ended(_)) => {}
        Ok(Cancelled::Unknown) => {
            world::with(|it| it.oracle.wrong(Wrong::Lost, format!("{delivery} is not known")));
        }
        Err(error) => world::with(|it| it.refused(&error)),
    }
}
