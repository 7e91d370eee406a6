//! `nestling finetune`: the model learns a repository, and is installed there if it is better.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use super::train::{parse_duration, stop_on_ctrl_c};
use super::{ModelArgs, neighbour, print, print_json, wrong_use};
use crate::finetune::{Exported, News, Request, Stopped, Watch, export, finetune, html};
use crate::generation::ModelSource;
use crate::model::peft;
use crate::store::{Choice, Store, Workspace};

#[derive(clap::Args)]
pub(super) struct FinetuneArgs {
    /// The repository, or a folder
    #[arg(default_value = ".")]
    repo: PathBuf,
    /// Time that all of it may take, as in 90s, 20m or 2h; waiting does not count
    #[arg(long, default_value = "20m", value_parser = parse_duration)]
    budget: f64,
    /// Go on with a run that was stopped
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Forget a run that was stopped
    #[arg(long)]
    fresh: bool,
    /// Say what it would bring, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Cores to use, all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=512))]
    threads: Option<u64>,
    /// Steps of each first trial, instead of what --budget allows: the same on every machine
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    steps: Option<u64>,
    /// Lines that are asked for in the end, instead of what --budget allows
    #[arg(long, value_name = "N")]
    places: Option<usize>,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Do not wait while a server says that you are typing, nor on battery
    #[arg(long)]
    no_wait: bool,
    /// Write the data and a job for Transformers and PEFT into this folder instead, to be run anywhere
    #[arg(long, value_name = "DIR", conflicts_with_all = ["resume", "fresh", "dry_run", "html"])]
    export: Option<PathBuf>,
    /// Copy a better model into this folder as well
    #[arg(long, value_name = "DIR", conflicts_with = "export")]
    out: Option<PathBuf>,
    /// Write a page with curves and with examples that changed
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Typing so long ago still counts as typing.
const TYPING: Duration = Duration::from_secs(3);

/// Between two lines of progress where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

pub(super) fn run(args: FinetuneArgs, model: &ModelArgs) -> Result<ExitCode> {
    if !args.repo.is_dir() {
        return Ok(wrong_use(format!(
            "{}: is no folder. Name the folder of a repository",
            args.repo.display()
        )));
    }
    if let Some(page) = &args.html
        && !page.parent().is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir())
    {
        return Ok(wrong_use(format!("--html {}: there is no such folder", page.display())));
    }
    // Before there are threads: they take it over.
    neighbour::lower_priority();
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads as usize);
        pool.build_global().context("the number of threads cannot be set")?;
    }
    let store = Store::of_user().context("there is no data folder: set NESTLING_DATA")?;
    let workspace = store.workspace(&args.repo);
    let busy = || {
        if args.no_wait {
            return None;
        }
        if workspace.is_typing(TYPING) {
            return Some("you are typing");
        }
        neighbour::on_battery(Path::new("/sys/class/power_supply")).then_some("on battery")
    };
    let stop = stop_on_ctrl_c();
    let is_named = model.model.is_some();
    let (model, rival) = base(model, &workspace);
    // What is installed counts for all of a repository.
    let is_root = std::fs::canonicalize(&args.repo).is_ok_and(|path| path == workspace.root());
    let request = Request {
        repo: if is_root { args.repo.clone() } else { workspace.root().to_path_buf() },
        model,
        is_named,
        rival,
        budget: args.budget,
        steps: args.steps,
        places: args.places,
        seed: args.seed,
        resume: args.resume,
        fresh: args.fresh,
        install: !args.dry_run,
        out: args.out.clone(),
    };
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed_precise}")?);
    let (mut round, mut told) = (String::new(), Instant::now());
    // Whoever read it may be gone: then nobody waits for the end, either.
    let tell_line = |line: &str| {
        if writeln!(std::io::stderr(), "{line}").is_err() {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let mut say = |news| match news {
        News::Note(text) => {
            // Whatever comes after a word about the search is no part of its rounds.
            round.clear();
            bar.suspend(|| tell_line(&text));
        }
        News::Round(number, done, all) => {
            round = format!("round {number}, candidate {} of {all}: ", done + 1);
        }
        News::Step(what, done, all) => {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            // Whoever reads lines gets one now and then.
            if bar.is_hidden() && told.elapsed() >= LINE_INTERVAL {
                tell_line(&format!("{done}/{all} {round}{what}"));
                told = Instant::now();
            }
            bar.set_message(format!("{round}{what}"));
        }
    };
    let mut watch = Watch { stop: &stop, say: &mut say, busy: &busy, waited: 0.0 };
    if let Some(folder) = &args.export {
        let exported = export(&request, folder, &mut watch);
        bar.finish_and_clear();
        return exported.and_then(|exported| tell(&exported, folder, args.json));
    }
    let report = finetune(&request, &workspace, &mut watch);
    bar.finish_and_clear();
    let report = match report {
        Err(error) if error.is::<Stopped>() => {
            let _ = writeln!(std::io::stderr(), "nestling: {error}");
            return Ok(ExitCode::from(130));
        }
        other => other?,
    };
    match args.json {
        true => print_json(&report)?,
        false => print(&report.to_string())?,
    }
    if let Some(path) = &args.html {
        std::fs::write(path, html(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if report.is_better() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The model to start from, and another one that is in use: a model that was imported is tuned itself; one that was
/// tuned before is not tuned again, but what it was tuned from, and it must be beaten.
fn base(model: &ModelArgs, workspace: &Workspace) -> (ModelSource, Option<(String, PathBuf)>) {
    let given = model.source();
    let Choice::Installed(installed) = workspace.in_use() else { return (given, None) };
    let (name, folder, card) = (&installed.name, &installed.folder, installed.card());
    let rival = Some((name.clone(), folder.clone()));
    if model.model.is_some() {
        return (given, rival);
    }
    let is_tuned = card["method"].is_object() || card["method"].is_string();
    if is_tuned || folder.join(peft::CONFIG).exists() {
        let before = card["base_path"].as_str().map(PathBuf::from).filter(|path| path.exists());
        return (before.map_or(given, ModelSource::Path), rival);
    }
    let _ = writeln!(std::io::stderr(), "{name} is in use: it is the one that is tuned");
    (ModelSource::Path(folder.clone()), None)
}

/// Says what an export came to and what is next.
fn tell(exported: &Exported, folder: &Path, as_json: bool) -> Result<ExitCode> {
    let Exported { steps, batch, sequence, learning_rate } = exported;
    let folder = folder.display();
    match as_json {
        true => print_json(exported)?,
        false => print(&format!(
            "{folder}: {steps} steps of {batch} rows of {sequence} tokens at {learning_rate:.1e}\n\
             run it:    torchrun --nproc-per-node 2 {folder}/train.py\n\
             bring it:  nestling model import {folder}/adapter --judge --use\n"
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}
