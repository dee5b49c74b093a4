//! Golden cases of a plugin: what goes in and what must come out, run through
//! the same engine, limits and pipeline as production.
//!
//! A case is one JSON file. `receive` (a request) leads to `events` or a
//! `rejection`; `send` (an event) leads to a `request`, to `accepted` (true or
//! false, by a filter) or to a `failure`; `call` (a request to a platform's API) leads
//! to a `response`; settings alone lead to `problems`. A body is text, or a file beside the case.
//!
//! Each runs on an instance of its own, and again on one that others have used, in
//! the order of the files and in a shuffled one: what comes out otherwise comes
//! from state that the plugin keeps hidden.

mod call;
mod file;
pub(crate) mod hub;
mod made;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use zeroize::Zeroizing;

use crate::attempt::Fault;
use crate::client::Client;
use crate::client::guard::Guard;
use crate::endpoint::{Endpoint, Order};
use crate::event::{Event, MEDIA_TYPE, TypePattern};
use crate::pipeline;
use crate::plugin::{
    Body, Bound, Component, EventView, Inbound, Key, Meter, Received, Role, Secrets, Spent, Unfit,
};
use crate::retry::RetryPolicy;
use crate::route::Route;
use file::{Case, ReceiveCase, SendCase, Versions, body, time};
pub(crate) use made::Made;
use made::MadeEvent;

/// One case, run.
pub(crate) struct Ran {
    pub(crate) file: PathBuf,
    /// The file's stem.
    pub(crate) name: String,
    /// What it shows.
    pub(crate) about: String,
    pub(crate) result: Result<(), Broken>,
    /// What it took on an instance of its own.
    pub(crate) fresh: Spent,
    /// What it took on a used one.
    pub(crate) warm: Spent,
    /// What a used one made, to be written into the file.
    blessing: Option<(Case, Made)>,
}

/// How a case does not hold.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It could not be run.
    Unfit(anyhow::Error),
    /// Something else came out; none was expected where nobody has said what.
    Differs { expected: Option<Made>, made: Made },
    /// A used instance makes something else than a fresh one.
    HiddenState { fresh: Made, used: Made, after: Vec<String> },
}

/// How cases are run.
pub(crate) struct Run<'a> {
    pub(crate) component: &'a Arc<Component>,
    pub(crate) folder: &'a Path,
    /// Of the shuffled order.
    pub(crate) seed: u64,
}

impl Ran {
    /// Write what was made into the case's file; false when it stands there already.
    /// What depends on hidden state is not written.
    pub(crate) fn bless(&self) -> anyhow::Result<bool> {
        let Some((case, made)) = &self.blessing else { return Ok(false) };
        let text = fs::read_to_string(&self.file)?;
        let Some(written) = case.blessed(&text, made, &self.file)? else { return Ok(false) };
        fs::write(&self.file, written)?;
        Ok(true)
    }
}

/// The `*.json` of a folder, in the order of their names.
pub(crate) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|it| it.path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "json"));
    files.sort();
    Ok(files)
}

impl Run<'_> {
    /// Run every `*.json` in the folder; the results are in the order of their names.
    pub(crate) async fn all(&self) -> anyhow::Result<Vec<Ran>> {
        let mut all = Vec::new();
        // Instances are told apart by their settings.
        let mut by_settings = BTreeMap::<String, Vec<(usize, Case)>>::new();
        for file in files(self.folder)? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let read = fs::read(&file).map_err(anyhow::Error::from);
            let case = read.and_then(|bytes| Ok(serde_json::from_slice::<Case>(&bytes)?));
            let (about, result) = match case {
                Ok(case) => {
                    let about = case.about.clone();
                    let same = by_settings.entry(case.settings.to_string()).or_default();
                    same.push((all.len(), case));
                    (about, Ok(()))
                }
                Err(error) => (String::new(), Err(Broken::Unfit(error))),
            };
            let (fresh, warm) = Default::default();
            all.push(Ran { file, name, about, result, fresh, warm, blessing: None });
        }
        let mut random = fastrand::Rng::with_seed(self.seed);
        for cases in by_settings.into_values() {
            self.group(&cases, &mut all, &mut random).await;
        }
        Ok(all)
    }

    /// Cases with the same settings.
    async fn group(&self, cases: &[(usize, Case)], all: &mut [Ran], random: &mut fastrand::Rng) {
        let mut runnable = Vec::new();
        for (index, case) in cases {
            let (made, spent) = self.make(case).await;
            let ran = &mut all[*index];
            ran.fresh = spent;
            let expected = case.expected(self.folder);
            ran.result = match (made, expected) {
                (Err(error), _) | (_, Err(error)) => Err(Broken::Unfit(error)),
                (Ok(made), Ok(expected)) => {
                    runnable.push((*index, case, made.clone()));
                    match expected {
                        Some(expected) if expected == made => Ok(()),
                        expected => Err(Broken::Differs { expected, made }),
                    }
                }
            };
        }
        // As long as somebody holds it, the others get the same instance.
        let held = cases.iter().find_map(|(_, case)| self.bind(case).ok()?.ok());
        let mut used = Vec::new();
        let mut order: Vec<usize> = (0..runnable.len()).collect();
        for pass in 0..2 {
            if pass == 1 {
                random.shuffle(&mut order);
            }
            for (index, case, fresh) in order.iter().map(|&it| &runnable[it]) {
                let (made, spent) = self.make(case).await;
                let ran = &mut all[*index];
                ran.warm = spent;
                match made {
                    Ok(made) if made == *fresh => {}
                    Ok(made) => {
                        let (fresh, after) = (fresh.clone(), used.clone());
                        ran.result = Err(Broken::HiddenState { fresh, used: made, after });
                    }
                    Err(error) => ran.result = Err(Broken::Unfit(error)),
                }
                used.push(ran.name.clone());
            }
        }
        drop(held);
        for (index, case, made) in runnable {
            let ran = &mut all[index];
            if matches!(ran.result, Err(Broken::Differs { .. })) {
                ran.blessing = Some((case.clone(), made));
            }
        }
    }

    /// Let the plugin make what the case asks for.
    async fn make(&self, case: &Case) -> (anyhow::Result<Made>, Spent) {
        let meter = Arc::new(Meter::default());
        let made = self.make_measured(case, &meter).await;
        (made, meter.take())
    }

    async fn make_measured(&self, case: &Case, meter: &Arc<Meter>) -> anyhow::Result<Made> {
        let bound = match self.bind(case)? {
            Ok(bound) => bound.measured_by(meter),
            Err(problems) => return Ok(problems),
        };
        if let Some(call) = &case.call {
            if case.receive.is_some() || case.send.is_some() {
                bail!("a case has one of `receive`, `send` and `call`");
            }
            return call::called(self.component, call, meter, self.folder).await;
        }
        match (&case.receive, &case.send) {
            (None, None) => Ok(Made::Taken),
            (Some(receive), None) => received(&bound, receive, self.folder).await,
            (None, Some(send)) if self.is_for_the_filter(case) => {
                accepted(self.component, &bound, send.event.clone().event(self.folder)?).await
            }
            (None, Some(send)) => {
                let keep = case.named_headers();
                sent(self.component, bound, send, &keep, self.folder).await
            }
            _ => bail!("a case has either `receive` or `send`, or leads to `problems`"),
        }
    }

    /// What is sent goes to the filter alone where that is what the case expects of it.
    fn is_for_the_filter(&self, case: &Case) -> bool {
        let fails = case.failure.as_ref().is_some_and(|it| it.stage == FILTER);
        case.accepted.is_some() || fails || self.component.roles() == [Role::Filter]
    }

    /// The plugin with the case's settings, or what it finds wrong with them.
    fn bind(&self, case: &Case) -> anyhow::Result<Result<Bound, Made>> {
        let secrets = secrets(self.component, case.secrets.clone())?;
        match Bound::new(self.component.clone(), &case.settings.to_string(), secrets) {
            Ok(bound) => Ok(Ok(bound)),
            Err(Unfit::Settings(found)) => {
                let found = found.into_iter().map(|it| (it.pointer, it.message));
                Ok(Err(Made::Problems(found.collect())))
            }
            Err(Unfit::Fault(fault)) => bail!("{fault}"),
        }
    }
}

/// A case that is run again and again, to see how long it takes.
pub(crate) struct Repeated<'a> {
    run: &'a Run<'a>,
    case: Case,
    pub(crate) name: String,
}

impl Run<'_> {
    /// The case of a file, if it calls the plugin at all.
    pub(crate) fn repeated(&self, file: &Path) -> anyhow::Result<Option<Repeated<'_>>> {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let case: Case =
            serde_json::from_slice(&fs::read(file)?).with_context(|| file.display().to_string())?;
        let calls = case.receive.is_some() || case.send.is_some() || case.call.is_some();
        Ok(calls.then_some(Repeated { run: self, case, name }))
    }
}

impl Repeated<'_> {
    /// How long it takes to make an instance and configure it, so many times.
    pub(crate) fn starts(&self, count: usize) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let started = Instant::now();
            let _ = self.run.bind(&self.case)?;
            times.push(started.elapsed());
        }
        Ok(times)
    }

    /// How long each of `count` calls takes on warm instances, and what they took.
    pub(crate) async fn calls(&self, count: usize) -> anyhow::Result<(Vec<Duration>, Spent)> {
        let held = self.run.bind(&self.case)?;
        let (mut times, mut largest) = (Vec::with_capacity(count), Spent::default());
        for _ in 0..count {
            let (made, spent) = self.run.make(&self.case).await;
            made?;
            times.push(spent.time);
            largest = spent;
        }
        drop(held);
        Ok((times, largest))
    }
}

fn inbound(case: &ReceiveCase, folder: &Path) -> anyhow::Result<Inbound> {
    let mut headers = HeaderMap::new();
    for (name, value) in &case.headers {
        headers.append(HeaderName::try_from(name)?, HeaderValue::from_str(value)?);
    }
    Ok(Inbound {
        method: Method::try_from(case.method.as_str())?,
        path: case.path.clone(),
        query: case.query.clone(),
        headers,
        time: time(&case.at)?,
        body: body(case.body.clone(), case.body_file.clone(), folder)?.unwrap_or_default(),
    })
}

async fn received(bound: &Bound, case: &ReceiveCase, folder: &Path) -> anyhow::Result<Made> {
    let request = Arc::new(inbound(case, folder)?);
    let answer = bound.receive(request).await.map_err(|fault| anyhow::anyhow!("{fault}"))?;
    Ok(match answer {
        Ok(received) => Made::Events(received.into_iter().map(MadeEvent::of).collect()),
        Err(it) => Made::Rejection { status: it.status, message: it.message },
    })
}

impl MadeEvent {
    fn of(received: Received) -> Self {
        Self {
            event_type: received.type_,
            subject: received.subject,
            duplicate_key: received.duplicate_key,
            time: received.time.map(crate::clock::UnixMs),
            attributes: received.attributes.into_iter().collect(),
            data: match received.data {
                Body::Unchanged => None,
                Body::Bytes(bytes) => Some(bytes.into()),
            },
        }
    }
}

/// The stage of a filter, in a case's `failure`.
const FILTER: &str = "filter";

async fn accepted(component: &Component, bound: &Bound, event: Event) -> anyhow::Result<Made> {
    let event = Arc::new(event);
    let view = EventView { data: event.data.clone(), event, media_type: None };
    Ok(match bound.accept(view).await {
        Ok(accepted) => Made::Accepted(accepted),
        Err(fault) => failed(component, FILTER, &fault),
    })
}

async fn sent(
    component: &Arc<Component>,
    bound: Bound,
    case: &SendCase,
    keep: &[String],
    folder: &Path,
) -> anyhow::Result<Made> {
    let event = Arc::new(case.event.clone().event(folder)?);
    let stage = |role| {
        let has = component.roles().contains(&role);
        if has { vec![bound.clone()] } else { Vec::new() }
    };
    let route = Route {
        name: "case".into(),
        tenant: None,
        from: None,
        types: vec![TypePattern::StartingWith("".into())],
        filters: stage(Role::Filter),
        transforms: stage(Role::Transform),
        auths: stage(Role::Auth),
        endpoint: Endpoint {
            uri: case.url.parse()?,
            url: case.url.clone().into(),
            timeout: Duration::ZERO,
            concurrency: 1,
            rate_limit: None,
            order: Order::Free,
            breaker: None,
            disable_after: None,
            disable_when_exhausted: false,
            client: Arc::new(Client::new(Guard::default())),
            grant: None,
        },
        retry: RetryPolicy::default(),
        headers: Default::default(),
        plugins: bound.label().into(),
        rests: None,
    };
    Ok(match pipeline::prepare(&route, &event, time(&case.at)?).await {
        Ok(found) => Made::Request {
            method: found.method.to_string(),
            headers: own_headers(&found.headers, &event, keep),
            body: found.body,
        },
        Err((stage, fault)) => failed(component, stage, &fault),
    })
}

/// A failure's code begins with the plugin's name, or with `plugin.` where the
/// engine stopped it; a case leaves the plugin's own name out.
fn failed(component: &Component, stage: &str, fault: &Fault) -> Made {
    let own = format!("{}.", component.name());
    Made::Failure {
        stage: stage.to_owned(),
        code: fault.code.strip_prefix(&own).unwrap_or(&fault.code).to_owned(),
        retry: fault.retry,
        message: fault.message.to_string(),
    }
}

/// The plugin's headers, without what the host adds to every request where the case
/// does not name it.
fn own_headers(found: &HeaderMap, event: &Event, keep: &[String]) -> BTreeMap<String, String> {
    let is_by_host = |name: &str, value: &HeaderValue| match name {
        "user-agent" => true,
        "webhook-id" => *value == event.id.to_string(),
        "content-type" => event.attribute(MEDIA_TYPE).is_some_and(|it| value == it),
        _ => false,
    };
    let own = found.iter().filter(|(name, value)| {
        keep.iter().any(|it| it == name.as_str()) || !is_by_host(name.as_str(), value)
    });
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    own.map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn secrets(component: &Component, texts: BTreeMap<String, Versions>) -> anyhow::Result<Secrets> {
    let mut keys = Vec::new();
    for (name, versions) in texts {
        let need = component.description().secrets.iter().find(|it| it.name == name);
        let need = need.with_context(|| format!("the plugin has no secret `{name}`"))?;
        let versions = match versions {
            Versions::One(text) => vec![text],
            Versions::Several(texts) => texts,
        };
        let decode = |text| Key::decode(Zeroizing::new(text), need.encoding);
        let decoded: Result<Vec<_>, _> = versions.into_iter().map(decode).collect();
        keys.push((name.into(), decoded.map_err(anyhow::Error::msg)?));
    }
    Ok(Secrets::new(keys))
}
