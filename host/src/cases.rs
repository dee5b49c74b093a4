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
mod ready;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::future::try_join_all;
use zeroize::Zeroizing;

use crate::plugin::{Bound, Component, Key, Meter, Role, Secrets, Spent, Unfit};
use file::{Case, Versions};
pub(crate) use made::Made;
use ready::{FILTER, Ready};

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
        match self.ready(case, meter)? {
            Ok(ready) => ready.call().await,
            Err(already) => Ok(already),
        }
    }

    /// All that the plugin is given, or what is made before any of it is.
    fn ready<'a>(
        &'a self,
        case: &'a Case,
        meter: &Arc<Meter>,
    ) -> anyhow::Result<Result<Ready<'a>, Made>> {
        let bound = match self.bind(case)? {
            Ok(bound) => bound.measured_by(meter),
            Err(problems) => return Ok(Err(problems)),
        };
        let folder = self.folder;
        Ok(Ok(match (&case.receive, &case.send, &case.call) {
            (None, None, Some(call)) => Ready::answer(self.component, call, meter, folder)?,
            (None, None, None) => return Ok(Err(Made::Taken)),
            (Some(receive), None, None) => Ready::receive(bound, receive, folder)?,
            (None, Some(send), None) if self.is_for_the_filter(case) => {
                Ready::accept(self.component, bound, send, folder)?
            }
            (None, Some(send), None) => {
                Ready::send(self.component, bound, send, case.named_headers(), folder)?
            }
            _ => bail!("a case has one of `receive`, `send` and `call`, or leads to `problems`"),
        }))
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

/// Calls that are made at a time, to see how long they take.
const TOGETHER: usize = 16;

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

    /// How long each of `count` calls takes on warm instances, and what the last took. They
    /// go from stage to stage together, as deliveries do.
    pub(crate) async fn calls(&self, count: usize) -> anyhow::Result<(Vec<Duration>, Spent)> {
        let meters: Vec<Arc<Meter>> = (0..count.min(TOGETHER)).map(|_| Arc::default()).collect();
        let ready = |meter| match self.run.ready(&self.case, meter)? {
            Ok(ready) => Ok(ready),
            Err(made) => bail!("the plugin is not called: {made:?}"),
        };
        let ready = meters.iter().map(ready).collect::<anyhow::Result<Vec<_>>>()?;
        let (mut times, mut last) = (Vec::with_capacity(count), Spent::default());
        while times.len() < count {
            let some = ready.iter().take(count - times.len());
            try_join_all(some.map(Ready::call)).await?;
            for meter in meters.iter().take(count - times.len()) {
                last = meter.take();
                times.push(last.time);
            }
        }
        Ok((times, last))
    }
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
