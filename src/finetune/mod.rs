//! Fine-tuning on a repository: data → candidates → a long run → judgement. The result is installed only if it is
//! better on newer code, on top of the memory; else nothing changes.

mod accept;
pub mod data;
mod exact;
mod export;
mod install;
mod judge;
mod report;
mod room;
mod search;
mod unexplained;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::generation::{Model, ModelSource};
use crate::memory::Gate;
use crate::model::engine::Precision;
use crate::model::lora::Base;
use crate::model::peft;
use crate::model::weights::Weights;
use crate::statistics::Figure;
use crate::store::Workspace;
use crate::train::checkpoint::Progress;
use crate::train::sources::Source;
use crate::train::trainer::Trainer;

use data::Data;
use judge::Judge;
use room::free_memory;
use search::{Bench, State};

pub use accept::{Accepted, accept};
pub use export::{Exported, export};
pub use report::{Changed, FinetuneReport, html};
use report::{Compared, uncertain};
pub use search::{Long, Plan, RangeTest, Trial};

/// What a person asks for.
#[derive(Clone)]
pub struct Request {
    /// The repository or folder.
    pub repo: PathBuf,
    /// The model to start from, and whether it was named: otherwise a run that goes on keeps its own.
    pub model: ModelSource,
    /// See `model`.
    pub is_named: bool,
    /// The name and folder of another model that is in use: what is tuned must complete more than it, too.
    pub rival: Option<(String, PathBuf)>,
    /// Seconds that all of it may take.
    pub budget: f64,
    /// Steps of a first trial, instead of what fits into the budget: then the result does not depend on the
    /// machine's speed.
    pub steps: Option<u64>,
    /// Lines that are asked for in the end, likewise.
    pub places: Option<usize>,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Go on with a run that was stopped.
    pub resume: bool,
    /// Forget a run that was stopped.
    pub fresh: bool,
    /// Whether a better model is installed and used from then on.
    pub install: bool,
    /// A folder that gets a copy of a better model.
    pub out: Option<PathBuf>,
}

impl Request {
    /// Of a repository and a model, with what is usual.
    pub fn of(repo: PathBuf, model: ModelSource) -> Request {
        Request {
            repo,
            model,
            is_named: true,
            rival: None,
            budget: 1200.0,
            steps: None,
            places: None,
            seed: 1,
            resume: false,
            fresh: false,
            install: true,
            out: None,
        }
    }
}

/// What happens.
pub enum News {
    /// Something that is decided or begun, in words.
    Note(String),
    /// A round of the search: its number from 1, candidates done and in all.
    Round(usize, usize, usize),
    /// So many steps of something are done, and of how many.
    Step(String, usize, usize),
}

/// Who is told, who can stop it, and for whom it waits.
pub struct Watch<'a> {
    /// Set to end early; what was done is kept.
    pub stop: &'a AtomicBool,
    /// Hears what happens.
    pub say: &'a mut dyn FnMut(News),
    /// Whether the machine is wanted for something else just now.
    pub busy: &'a dyn Fn() -> Option<&'static str>,
    /// Seconds that were spent waiting.
    pub waited: f64,
}

/// The run was stopped; it can be gone on with.
#[derive(Debug, thiserror::Error)]
#[error("stopped; what was done is kept: go on with --resume")]
pub struct Stopped;

impl Watch<'_> {
    fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Stopped.into()) } else { Ok(()) }
    }

    fn note(&mut self, text: impl Into<String>) {
        (self.say)(News::Note(text.into()));
    }

    fn pause_and_say(&mut self, what: &str, done: usize, all: usize) {
        (self.say)(News::Step(what.into(), done, all));
        let start = Instant::now();
        while !self.stop.load(Ordering::Relaxed)
            && let Some(reason) = (self.busy)()
        {
            (self.say)(News::Step(format!("waiting: {reason}"), done, all));
            std::thread::sleep(Duration::from_millis(300));
        }
        self.waited += start.elapsed().as_secs_f64();
    }

    fn step(&mut self, what: &str, done: usize, all: usize) -> Result<()> {
        self.pause_and_say(what, done, all);
        self.check()
    }
}

/// What the untouched model may lose on general code, as a factor.
const GENERAL: f64 = 1.02;
/// Strengths at which tuned weights are tried: 1 is all of the change.
const STRENGTHS: [f32; 4] = [0.25, 0.5, 0.75, 1.0];

/// Runs all of it.
///
/// # Errors
/// A repository that gives too little, a model that does not fit into the memory or the budget, a full disk, a stop.
/// Whatever was done is kept for `resume`; what is installed is not touched.
pub fn finetune(
    request: &Request,
    workspace: &Workspace,
    watch: &mut Watch<'_>,
) -> Result<FinetuneReport> {
    let start = Instant::now();
    let folder = workspace.folder().join(".finetune");
    let file = folder.join("state.json");
    let _alone = alone(workspace)?;
    if request.fresh {
        let _ = std::fs::remove_dir_all(&folder);
    }
    make(&folder)?;
    if let Some(out) = &request.out {
        install::check_out(out)?;
    }
    let before = State::load(&file)?;
    match (&before, request.resume) {
        (Some(_), false) => bail!(
            "an earlier fine-tune of {} was stopped: go on with --resume, or forget it with --fresh",
            workspace.root().display()
        ),
        (None, true) => watch.note("nothing is to be resumed: this run starts anew"),
        _ => {}
    }
    // What is in use may be the result of this very run.
    let kept = before.as_ref().filter(|_| !request.is_named);
    let request = &match kept {
        Some(state) => Request {
            model: state.model.clone().map_or(ModelSource::Embedded, ModelSource::Path),
            rival: state.rival.clone(),
            ..request.clone()
        },
        None => request.clone(),
    };
    let source = source_of(request)?;
    let begun = before.as_ref().and_then(|state| state.settings["repository"].as_str());
    let source = match begun.filter(|_| source.is_git()) {
        // It goes on with the commit at which it began, whatever was committed since.
        Some(commit) => {
            watch.note(format!("going on with commit {}", short(&Some(commit.to_string()))));
            source
                .at_revision(commit)
                .context("the earlier fine-tune cannot go on: start anew with --fresh")?
        }
        None if source.is_git() => source.clone().at_revision("HEAD").unwrap_or(source),
        None => source,
    };
    let open = || Ok(request.model.weights()?);
    let weights = trainable(&request.model)?;
    watch.note(format!("reading {}", request.repo.display()));
    let data = Data::read(&source, request.seed)?;
    let settings = json!({
        "repository": source.revision, "bytes": data.last.bytes, "base": weights.fingerprint(),
        "seed": request.seed, "steps": request.steps, "places": request.places,
    });
    let mut state = before.unwrap_or_default();
    if !state.settings.is_null() && state.settings != settings {
        bail!(
            "the repository or the model is another than when the earlier fine-tune began, or more is asked for: start anew \
             with --fresh"
        );
    }
    if state.settings.is_null() {
        let (methods, is_small) = room::affordable(&weights, free_memory(), watch)?;
        (state.methods, state.is_small) = (methods, is_small);
        let model = match &request.model {
            ModelSource::Embedded => None,
            ModelSource::Path(path) => Some(std::path::absolute(path)?),
        };
        (state.model, state.rival) = (model, request.rival.clone());
    }
    let (methods, is_small) = (state.methods.clone(), state.is_small);
    state.settings = settings;
    let base = Arc::new(if is_small { Base::load_small(&weights) } else { Base::load(&weights) }?);
    let original = Model::of(&weights, Precision::Quantized, "base".into())?;
    let tokenizer = original.tokenizer.clone();
    let gate = Gate::shipped();
    let seed = request.seed;
    watch.note(told(&data));
    let config = weights.config;
    let bench = Bench {
        weights: &open,
        base,
        config: &config,
        tokenizer: &tokenizer,
        folder: folder.clone(),
        seed,
    };
    let learn = bench.weighed(&data.search.learn, &original, watch)?;
    let mut judge = Judge::new(&data.search, &tokenizer, seed)?;
    let earlier = state.seconds;
    let spent = |watch: &Watch<'_>| earlier + start.elapsed().as_secs_f64() - watch.waited;

    let base_general = match state.general {
        Some(found) => found,
        None => judge::general(&original)?,
    };
    state.general = Some(base_general);
    let plan = match (state.plan.clone(), request.steps) {
        (Some(plan), _) => plan,
        (None, Some(steps)) => search::Plan::of_steps(steps, request.places, methods.len()),
        (None, None) => {
            let (run, place) = judge.seconds(&request.model, &gate)?;
            let clock = Instant::now();
            judge::general(&original)?;
            let general = clock.elapsed().as_secs_f64();
            let mut step = 0f64;
            for &method in &methods {
                step = step.max(bench.seconds_per_step(method, &learn)?);
                watch.check()?;
            }
            watch.note(format!(
                "here a step takes {step:.2} s, an answer {:.0} ms, a run of lines {:.0} ms, general code {general:.1} s",
                1e3 * place,
                1e3 * run,
            ));
            let costs = search::Costs { spent: spent(watch), run, place, general, step };
            bench.plan(
                &methods,
                (request.budget, request.places),
                costs,
                data.search.bytes,
                &learn,
            )?
        }
    };
    judge.limit(plan.runs, plan.places);
    let base_lines = judge.lines(&original, watch)?;
    let base_exact = base_lines.exact(&gate);
    watch.note(match plan.candidates {
        1 => format!("time for one candidate, trained for {} steps", plan.long),
        candidates => format!(
            "{candidates} candidates of {} steps at first, then the best one for {}",
            plan.steps, plan.long
        ),
    });
    state.plan = Some(plan.clone());
    state.save(&file)?;
    let methods = &methods[..methods.len().min(plan.candidates)];
    for (done, &method) in methods.iter().enumerate() {
        if state.rates.iter().all(|(known, ..)| *known != method) {
            watch.step("learning-rate range test", done, methods.len())?;
            let (rate, curve) = bench.range_test(method, &learn, watch)?;
            state.rates.push((method, rate, curve));
            state.save(&file)?;
        }
    }
    let saved = (&mut state, file.as_path());
    search::halving(&bench, (&learn, &judge, &gate, GENERAL * base_general), saved, &plan, watch)?;
    let winner = loop {
        let Some(tried) = state.best().cloned() else {
            bail!("every candidate lost its loss, at whatever learning rate: nothing was changed");
        };
        if let Some(exact) = tried.exact() {
            watch.note(format!(
                "best candidate: {}, {:.1} % of the rests of newer lines should come out exactly, {:.1} % untouched",
                tried.name(),
                100.0 * exact,
                100.0 * base_exact
            ));
        }
        let winner = Trial { rate: plan.long_rate(tried.rate), ..tried.clone() };
        let lengths = plan.lengths();
        while let Some(&steps) = lengths.get(state.longs.len()) {
            let trained = bench.train(&winner, &learn, ("long", steps, true), watch)?;
            let Some(trained) = trained else { break };
            let before = (&gate, &base_lines, base_general);
            state.longs.push(at_strengths(&bench, trained, &judge, before, watch)?);
            state.seconds = spent(watch);
            state.save(&file)?;
        }
        if !state.longs.is_empty() {
            break winner;
        }
        // The next best begins in an empty folder.
        let _ = std::fs::remove_dir_all(folder.join("long"));
        state.give_up(&tried, &file)?;
    };
    drop(judge);
    // Of equals the shorter one.
    let exact = |long: &Long| long.best(base_general).map_or(0.0, |best| best.1);
    let best = state.longs.iter().rev().max_by(|a, b| exact(a).total_cmp(&exact(b)));
    let Some(long) = best.cloned() else { bail!("there is no long run") };

    let mut report = FinetuneReport {
        repository: source.name,
        revision: data.last.judge.revision.clone(),
        version: env!("CARGO_PKG_VERSION"),
        machine: crate::eval::machine::machine(),
        base: original.name.clone(),
        base_path: state.model.clone(),
        split: data.split,
        bytes: data.last.bytes,
        plan,
        rates: state.rates.clone(),
        trials: state.trials.clone(),
        base_exact,
        longs: state.longs.clone(),
        long: long.clone(),
        winner,
        strength: 0.0,
        curve: Vec::new(),
        places: 0,
        beaten_by: None,
        before: Figure::default(),
        after: Figure::default(),
        gain: Figure::default(),
        p: 1.0,
        general: (base_general, base_general),
        changed: Vec::new(),
        verdict: String::new(),
        installed: None,
        seconds: 0.0,
        waited: 0.0,
    };
    let strength = long.best(base_general).filter(|(_, exact, _)| *exact > base_exact);
    if let Some((strength, ..)) = strength {
        report.strength = strength;
        judge_and_install(request, workspace, (&bench, &data, original), &mut report, watch)?;
    } else {
        report.verdict = "no candidate was better than the model as it is".into();
    }
    report.seconds = spent(watch);
    report.waited = watch.waited;
    // Killed in between, it is done all the same.
    let done = folder.with_extension("done");
    let _ = std::fs::remove_dir_all(&done);
    let _ = std::fs::rename(&folder, &done);
    let _ = std::fs::remove_dir_all(&done);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(report)
}

/// Judges what a long run came to at several strengths, beside the untouched model.
fn at_strengths(
    bench: &Bench<'_>,
    (trainer, progress): (Trainer, Progress),
    judge: &Judge<'_>,
    (gate, base_lines, base_general): (&Gate, &judge::Lines, f64),
    watch: &mut Watch<'_>,
) -> Result<Long> {
    let (mut strengths, mut lines) = (Vec::new(), Vec::new());
    for strength in STRENGTHS {
        let model = bench.model(&trainer, true, strength)?;
        let scored = judge.lines(&model, watch)?;
        strengths.push((strength, scored.exact(gate), judge::general(&model)?));
        lines.push(scored);
        watch.step("trying strengths", strengths.len(), STRENGTHS.len())?;
    }
    let before = gate.refitted(&base_lines.events);
    let mut long = Long { steps: progress.step, strengths, gates: [before.clone(), before] };
    if let Some(best) = long.best(base_general) {
        let at = long.strengths.iter().position(|tried| *tried == best);
        long.gates[1] = gate.refitted(&lines[at.unwrap_or(0)].events);
    }
    Ok(long)
}

/// The last run, on all but the newest lines, its judgement by those, and its installation if it deserves it.
fn judge_and_install(
    request: &Request,
    workspace: &Workspace,
    (bench, data, original): (&Bench<'_>, &Data, Model),
    report: &mut FinetuneReport,
    watch: &mut Watch<'_>,
) -> Result<()> {
    let learn = bench.weighed(&data.last.learn, &original, watch)?;
    let steps = report.long.steps;
    let trained = bench.train(&report.winner, &learn, ("last", steps, true), watch)?;
    let Some((trainer, progress)) = trained else {
        report.verdict = "the loss of the last run is lost".into();
        return Ok(());
    };
    report.curve = progress.curve;
    // General code is nothing that the choice of the strength has seen of this run.
    let base_general = report.general.0;
    let mut kept = None;
    for &strength in STRENGTHS.iter().rev().filter(|strength| **strength <= report.strength) {
        let general = judge::general(&bench.model(&trainer, true, strength)?)?;
        if general <= GENERAL * base_general {
            kept = Some((strength, general));
            break;
        }
    }
    let Some((strength, general)) = kept else {
        report.verdict = "it forgets more than 2 % of general code at any strength".into();
        return Ok(());
    };
    (report.strength, report.general.1) = (strength, general);
    let name = format!("finetuned-{}", short(&report.revision));
    let result = bench.folder.join("result");
    let tuned = install::write(&trainer, &request.model, (&name, strength), &result)?;
    let mut judge = Judge::new(&data.last, bench.tokenizer, bench.seed)?;
    judge.limit(report.plan.runs, report.plan.places);
    // A running server fits the gate to its workspace, too: both models get their due.
    let gates = &report.long.gates;
    let before = judge.answers(original, &gates[0], watch)?;
    let tuned = Model::load(&tuned, Precision::Quantized)?;
    let after = judge.answers(tuned, &gates[1], watch)?;
    let right = after.iter().filter(|answer| answer.exact).count();
    let Compared { places, before, after, gain, p, changed } =
        Compared::of(&before, &after, bench.seed);
    (report.places, report.gain, report.p) = (places, gain, p);
    (report.before, report.after, report.changed) = (before, after, changed);
    if !report.is_better() {
        report.verdict = uncertain(report.gain, report.places);
        return Ok(());
    }
    report.verdict = "better, and certain at 95 %".into();
    // Killed just after it was put in place, a run finds itself there.
    let card = report.card();
    let there = workspace.models().into_iter().find(|model| model.card() == card);
    if there.is_none()
        && let Some((name, folder)) = &request.rival
        && right <= rights_of(name, folder, (&data.last, &report.plan, bench.seed), gates, watch)?
    {
        report.verdict = format!("{name}, which is in use, completes as many lines");
        report.beaten_by = Some(name.clone());
        return Ok(());
    }
    install::describe(&result, &gates[1], &card)?;
    if let Some(out) = &request.out {
        install::copy(&result, out)?;
    }
    if request.install {
        let name = match there {
            Some(installed) => installed.name,
            None => install::put_in_place(workspace, &name, &result)?,
        };
        workspace.set_in_use(Some(&name))?;
        report.installed = Some(name);
    }
    Ok(())
}

/// How many of the lines a model completes exactly that is in use; none if it cannot be loaded.
fn rights_of(
    name: &str,
    folder: &Path,
    (part, plan, seed): (&data::Part, &Plan, u64),
    gates: &[Gate; 2],
    watch: &mut Watch<'_>,
) -> Result<usize> {
    let rival = match Model::load(&ModelSource::Path(folder.into()), Precision::Quantized) {
        Ok(rival) => rival,
        Err(error) => {
            watch.note(format!("{name} cannot be loaded and is no rival: {error}"));
            return Ok(0);
        }
    };
    // It may read text as other tokens.
    let mut judge = Judge::new(part, &rival.tokenizer, seed)?;
    judge.limit(plan.runs, plan.places);
    let own = std::fs::read(folder.join("gate.json")).ok();
    let gate = own.and_then(|own| serde_json::from_slice(&own).ok());
    let answers = judge.answers(rival, gate.as_ref().unwrap_or(&gates[0]), watch)?;
    Ok(answers.iter().filter(|answer| answer.exact).count())
}

/// The lock of a workspace's fine-tune: two windows may ask for one of the same repository. Held until it is dropped, and
/// given back by the system where the program is killed.
fn alone(workspace: &Workspace) -> Result<std::fs::File> {
    let folder = workspace.folder();
    make(folder)?;
    let path = folder.join(".finetune.lock");
    let file =
        std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => bail!(
            "a fine-tune of {} is running already: wait for its end, or stop it where it was begun",
            workspace.root().display()
        ),
        // Where the system knows no locks, nobody is kept out.
        _ => Ok(file),
    }
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make {}; free some space", folder.display()))
}

/// The weights of a model that can be tuned.
///
/// # Errors
/// A family that is not trained here, an adapter.
fn trainable(model: &ModelSource) -> Result<Weights> {
    if let ModelSource::Path(path) = model
        && path.join(peft::CONFIG).exists()
    {
        bail!(
            "{0} is an adapter: merge it with its base first (nestling quantize {0} --out FILE) and name that file by \
             --model",
            path.display()
        );
    }
    let weights = model.weights()?;
    weights.config.trainable()?;
    Ok(weights)
}

/// The one repository that is asked for.
fn source_of(request: &Request) -> Result<Source> {
    match Source::find(&request.repo)?.as_slice() {
        [source] => Ok(source.clone()),
        _ => bail!("{} is a list: name one repository", request.repo.display()),
    }
}

fn short(revision: &Option<String>) -> &str {
    revision.as_deref().map_or("files", |hash| &hash[..hash.len().min(8)])
}

fn told(data: &Data) -> String {
    let by = match data.split {
        data::Split::Commits => "judged by lines of later commits",
        data::Split::Files => "judged by files that are kept back",
    };
    format!(
        "{} KB to learn from, {by}: {} to choose settings, {} for the result",
        data.last.bytes / 1000,
        data.search.places.len(),
        data.last.places.len()
    )
}
