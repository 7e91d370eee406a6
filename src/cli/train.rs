//! `nestling train`: folders in, a model directory out.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::train::pipeline::{Message, TrainReport, TrainRequest, train};
use crate::train::trainer::News;

#[derive(Args)]
pub(super) struct TrainArgs {
    /// Folders, git repositories (bare ones too), and text files that list such, one per line
    #[arg(required = true)]
    corpus: Vec<PathBuf>,
    /// The model directory to make
    #[arg(long)]
    out: PathBuf,
    /// auto (needs --budget), tiny, micro, nano, mini, small, medium or base
    #[arg(long, default_value = "auto")]
    size: String,
    /// Steps to train; by default what --budget allows, or 2000
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Time that training may take, as in 90s, 20m or 2h
    #[arg(long, value_parser = parse_duration)]
    budget: Option<f64>,
    /// A TOML file with changes to the recipe, such as the train.toml beside a trained model
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Peak learning rate, instead of the preset's or a range test's
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Find the learning rate by a range test, or not; by default when the run is long enough
    #[arg(long)]
    range_test: Option<bool>,
    /// Take texts whatever their licence: for your own code
    #[arg(long)]
    any_licence: bool,
    /// Go on from the checkpoint in the model directory
    #[arg(long)]
    resume: bool,
    /// Where to compute; cuda needs a build with the feature of that name
    #[arg(long, default_value = "cpu", value_parser = ["cpu", "cuda"])]
    device: String,
    /// Write this many rows of examples to OUT/rows for another trainer, and train nothing
    #[arg(long, value_name = "N")]
    export_rows: Option<u64>,
    /// Print the report as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: TrainArgs, model: &super::ModelArgs) -> Result<ExitCode> {
    let mut changes = toml::Table::new();
    if let Some(path) = &args.config {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        changes = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
    }
    if let Some(rate) = args.learning_rate {
        if !(rate > 0.0 && rate < 1.0) {
            return Ok(super::wrong_use(format!(
                "a learning rate of {rate} is not between 0 and 1"
            )));
        }
        set(&mut changes, &["train", "optimizer", "learning_rate"], rate.into());
    }
    if args.any_licence {
        set(&mut changes, &["prepare", "any_licence"], true.into());
    }
    // A recipe that names its size is not asked for another.
    let named = changes.get("size").and_then(|s| s.as_str()).map(str::to_string);
    let size = if args.size == "auto" { named } else { Some(args.size) };
    let request = TrainRequest {
        corpus: args.corpus,
        out: args.out,
        size,
        changes,
        steps: args.steps,
        budget: args.budget,
        range_test: args.range_test,
        start: start_model(model),
        resume: args.resume,
        cuda: args.device == "cuda",
        export_rows: args.export_rows,
    };
    let stop = stop_on_ctrl_c();
    let mut display = Display::new()?;
    let report = train(&request, &stop, &mut |message| display.show(message))?;
    display.bar.finish_and_clear();
    match report {
        Some(report) if args.json => super::print_json(&report)?,
        Some(report) => eprintln!("{}", summary(&report)),
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The model to start from: only one that is named here. NESTLING_MODEL says which model answers in the
/// editor.
fn start_model(model: &super::ModelArgs) -> Option<PathBuf> {
    let mut arguments = std::env::args_os().map(|a| a.to_string_lossy().into_owned());
    let named = arguments.any(|a| a == "--model" || a.starts_with("--model="));
    model.model.clone().filter(|_| named)
}

/// Sets `value` at the end of a path of tables.
fn set(table: &mut toml::Table, path: &[&str], value: toml::Value) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        table.insert(first.to_string(), value);
        return;
    }
    let inner = table.entry(*first).or_insert_with(|| toml::Table::new().into());
    if let Some(inner) = inner.as_table_mut() {
        set(inner, rest, value);
    }
}

fn summary(report: &TrainReport) -> String {
    let TrainReport { parameters, tokens, progress, bits_per_byte, .. } = report;
    let score = bits_per_byte.map(|b| format!(", {b:.3} bits per byte held out"));
    let rest = match progress.step < progress.steps {
        true => format!("; stopped at step {} of {}", progress.step, progress.steps),
        false => String::new(),
    };
    format!(
        "{parameters} parameters, {:.2} million tokens in {:.0} s{}{rest}",
        *tokens as f64 / 1e6,
        progress.seconds,
        score.unwrap_or_default()
    )
}

/// A bar on a terminal; a line now and then elsewhere.
struct Display {
    bar: ProgressBar,
    logged: Instant,
}

impl Display {
    fn new() -> Result<Display> {
        let bar = ProgressBar::no_length();
        bar.set_style(ProgressStyle::with_template(
            "{bar:30} {pos}/{len} {msg} {elapsed_precise} left {eta_precise}",
        )?);
        Ok(Display { bar, logged: Instant::now() })
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    fn progress(&mut self, (done, all): (u64, u64), text: String) {
        self.bar.set_length(all);
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.logged.elapsed().as_secs() >= 20 {
            eprintln!("{done}/{all}: {text}");
            self.logged = Instant::now();
        }
        self.bar.set_message(text);
    }

    fn show(&mut self, message: Message) {
        match message {
            Message::Reading(source, (done, all), files, bytes) => {
                let text = format!("{source}: {files} files kept, {} MB read", bytes / 1_000_000);
                self.progress((done as u64, all as u64), text);
            }
            Message::Prepared(report) => self.line(report.to_string().trim_end()),
            Message::Note(text) => self.line(&text),
            Message::Exported(rows) => self.progress((rows, rows), "rows written".into()),
            Message::Training(News::Notice(text)) => self.line(&text),
            Message::Training(News::Evaluated(e)) => self.line(&format!(
                "step {}: held-out loss {:.4}, averaged weights {:.4}",
                e.step, e.loss, e.average
            )),
            Message::Training(News::Step {
                step,
                loss,
                tokens_per_second,
                gradient_norm,
                phase,
            }) => {
                let text = format!(
                    "{phase} loss {loss:.3} |g| {gradient_norm:.2} {tokens_per_second:.0} tok/s"
                );
                self.progress(step, text);
            }
        }
    }
}

/// A flag that Ctrl-C sets: the run then saves and ends. A second Ctrl-C ends it at once.
pub(super) fn stop_on_ctrl_c() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    on_ctrl_c(move || {
        flag.store(true, Ordering::Relaxed);
        // Whoever reads it may be gone.
        let _ =
            writeln!(std::io::stderr(), "stopping after this step; --resume goes on from there");
    });
    stop
}

/// Does something when Ctrl-C is pressed; at the second time the program ends at once.
pub(super) fn on_ctrl_c(pressed: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            pressed();
        }
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            std::process::exit(130);
        }
    });
}

/// Seconds of "90s", "20m", "2h" or a bare number of seconds.
pub(super) fn parse_duration(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.char_indices().find(|(_, c)| c.is_alphabetic()) {
        Some((at, _)) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}; use s, m or h")),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 => Ok(number * factor),
        _ => Err(format!("{text:?} is no duration; write it as 90s, 20m or 2h")),
    }
}
