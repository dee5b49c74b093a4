//! Counters and gauges, as Prometheus reads them.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::attempt::Outcome;
use crate::engine::Engine;
use crate::queue::log::Backlog;
use crate::queue::nodes::{Node, prevailing};

/// What the engine counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    ingested: Family<Ingest, Counter>,
    platform_calls: Family<Ingest, Counter>,
    attempts: Family<Attempted, Counter>,
    attempt_seconds: Histogram,
    filtered: Counter,
    reloads: Family<Reload, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    /// `published` or `refused`
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ingest {
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempted {
    outcome: OutcomeLabel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct OutcomeLabel(&'static str);

impl EncodeLabelValue for OutcomeLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

/// From a receiver on the same machine to the longest timeout that is usual.
const SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 30.0];

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("plugpost"),
            ingested: Family::default(),
            platform_calls: Family::default(),
            attempts: Family::default(),
            attempt_seconds: Histogram::new(SECONDS),
            filtered: Counter::default(),
            reloads: Family::default(),
        };
        let mut registry = Registry::with_prefix("plugpost");
        registry.register(
            "ingest_requests",
            "Requests taken in, by HTTP status",
            metrics.ingested.clone(),
        );
        registry.register(
            "platform_requests",
            "Calls of platforms' APIs, by HTTP status",
            metrics.platform_calls.clone(),
        );
        registry.register("attempts", "Attempts made, by outcome", metrics.attempts.clone());
        registry.register_with_unit(
            "attempt_duration",
            "From the first plugin call to the last byte of the response",
            Unit::Seconds,
            metrics.attempt_seconds.clone(),
        );
        registry.register(
            "deliveries_filtered",
            "Deliveries that a filter declined",
            metrics.filtered.clone(),
        );
        registry.register(
            "reloads",
            "Reloads of the folder, published or refused",
            metrics.reloads.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    pub(crate) fn ingested(&self, status: u16) {
        self.ingested.get_or_create(&Ingest { status }).inc();
    }

    pub(crate) fn platform_called(&self, status: u16) {
        self.platform_calls.get_or_create(&Ingest { status }).inc();
    }

    pub(crate) fn attempt(&self, outcome: Outcome, duration: Duration) {
        let label = Attempted { outcome: OutcomeLabel(outcome.as_str()) };
        self.attempts.get_or_create(&label).inc();
        self.attempt_seconds.observe(duration.as_secs_f64());
    }

    pub(crate) fn reloaded(&self, good: bool) {
        let result = if good { "published" } else { "refused" };
        self.reloads.get_or_create(&Reload { result }).inc();
    }

    pub(crate) fn filtered(&self) {
        self.filtered.inc();
    }
}

/// Everything, with what waits in the store, in the OpenMetrics text format.
pub(crate) fn render(
    engine: &Engine,
    backlog: &[Backlog],
    nodes: &[Node],
) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    encode(&mut text, &engine.metrics.registry)?;
    let mut now = Registry::with_prefix("plugpost");
    let gauge = |value: usize| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    now.register(
        "attempts_under_way",
        "Attempts being made at this moment",
        gauge(engine.lanes.attempts_under_way()),
    );
    now.register(
        "writes_waiting",
        "Writes that wait for the next commit",
        gauge(engine.queue.depth()),
    );
    now.register(
        "fenced",
        "Attempts that were not recorded because another node had taken their delivery over",
        ConstCounter::new(engine.queue.fenced()),
    );
    let waiting = Family::<OfRoute, Gauge>::default();
    let snapshot = engine.snapshot();
    // A route without a backlog says so; there can be too many subscriptions for that.
    for route in snapshot.routes.files() {
        waiting.get_or_create(&OfRoute { route: route.name.to_string() }).set(0);
    }
    for Backlog { route, deliveries, .. } in backlog {
        let deliveries = i64::try_from(*deliveries).unwrap_or(i64::MAX);
        waiting.get_or_create(&OfRoute { route: route.clone() }).set(deliveries);
    }
    now.register("deliveries_waiting", "Deliveries that wait in the store, by route", waiting);
    now.register(
        "stream_listeners",
        "Connections that follow attempts as they happen",
        gauge(engine.stream.listeners()),
    );
    now.register(
        "snapshot",
        "The number of the snapshot in force",
        gauge(snapshot.number as usize),
    );
    let prevails = prevailing(nodes);
    let differs =
        |it: &&Node| it.report.as_ref().is_some_and(|it| Some(it.snapshot.as_str()) != prevails);
    now.register(
        "nodes",
        "Engines on this store that show a sign of life",
        gauge(nodes.iter().filter(|it| it.alive).count()),
    );
    now.register(
        "nodes_differing",
        "Engines on this store that serve another folder than most do",
        gauge(nodes.iter().filter(differs).count()),
    );
    let mut gauges = String::new();
    encode(&mut gauges, &now)?;
    // Two registries, one text: the end marker stands once.
    Ok(text.trim_end().trim_end_matches("# EOF").to_owned() + &gauges)
}
