//! `nestling eval fix`: broken syntax repaired, functions with their tests, exercises with their compiler, what people
//! corrected.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::super::train::parse_duration;
use super::{ModelArgs, Steps, show};
use crate::eval::fix::{fix, rows, table};
use crate::eval::{corrections, machine, repair, texts};
use crate::generation::Generator;
use crate::suggest::{CompletionOptions, ModelCompleter};
use crate::syntax::Language;

#[derive(clap::Args)]
pub(in crate::cli) struct FixArgs {
    /// Folders, git repositories or lists of them whose files are broken
    #[arg(long, num_args = 1.., value_name = "DIR[@REV]", required_unless_present_any = ["suite", "exercises"])]
    repo: Vec<PathBuf>,
    /// Instead: small corrections that somebody made in their commits, and whether these are proposed
    #[arg(long, requires = "repo", conflicts_with_all = ["no_model", "language"])]
    history: bool,
    /// Fit what is tried first to these corrections, and write it into this file
    #[arg(long, value_name = "FILE", requires = "history")]
    fit: Option<PathBuf>,
    /// Functions with a bug and tests that show it, as JSON lines: HumanEvalFix in Python or Rust
    #[arg(long, value_name = "FILE", conflicts_with = "repo")]
    suite: Option<PathBuf>,
    /// Rust files of which those that do not compile are repaired, as rustlings' exercises
    #[arg(long, value_name = "DIR", conflicts_with_all = ["repo", "suite"])]
    exercises: Option<PathBuf>,
    /// Their solutions, under the same names: what they print is compared
    #[arg(long, value_name = "DIR", requires = "exercises")]
    solutions: Option<PathBuf>,
    /// Time for each function or exercise
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    time: f64,
    /// Languages whose files are broken
    #[arg(long, value_delimiter = ',', default_value = "rust,python,typescript,go,c")]
    language: Vec<String>,
    /// Broken files of each language; a quarter each by deleting, inserting, doubling and swapping a token
    ///
    /// Of a suite: so many functions, drawn by the seed; all by default. Of a history: so many corrections.
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Let the parser choose alone, without the model
    #[arg(long)]
    no_model: bool,
    /// Write every case as a line of JSON
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Files of each language by default.
const COUNT: usize = 500;

pub(super) fn measure(own: FixArgs, args: &ModelArgs) -> Result<()> {
    if let Some(unknown) = own.language.iter().find(|name| Language::by_name(name).is_none()) {
        bail!("--language: there is no language {unknown:?}");
    }
    if own.suite.is_some() || own.exercises.is_some() || own.history {
        return measure_programs(&own, args);
    }
    let repositories = texts::repositories(&own.repo, None)?;
    let count = own.count.unwrap_or(COUNT);
    let model = if own.no_model { None } else { Some(args.load()?) };
    let all = count * own.language.len();
    let mut steps = Steps::new("files broken and repaired");
    let mut done = 0;
    let mut say = |_: &str, _| {
        done += 1;
        steps.at(done, all);
    };
    let cases = fix(model, &repositories, &own.language, count, own.seed, &mut say)?;
    if let Some(path) = &own.cases {
        write(path, &cases)?;
    }
    let rows = rows(&cases);
    let report = json!({
        "cases": cases.len(),
        "seed": own.seed,
        "repositories": repositories.iter().map(|r| json!({ "name": r.name, "revision": r.revision }))
            .collect::<Vec<_>>(),
        "rows": rows,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine::machine(),
    });
    show(own.json, &report, || table(&rows))
}

/// Programs repaired with their tests or their compiler.
fn measure_programs(own: &FixArgs, args: &ModelArgs) -> Result<()> {
    let generator = Generator::new(args.load()?);
    let mut completer = ModelCompleter::new(generator, CompletionOptions::default());
    let limit = Duration::from_secs_f64(own.time);
    let (results, shown) = match (&own.suite, &own.exercises) {
        (Some(suite), _) => {
            let bugs = repair::read_bugs(suite, own.count, own.seed)?;
            let mut steps = Steps::new("functions repaired");
            let mut say = |done| steps.at(done, bugs.len());
            let results = repair::bugs(&mut completer, &bugs, limit, &mut say)?;
            (serde_json::to_value(&results)?, repair::bug_table(&results))
        }
        (None, Some(folder)) => {
            let mut steps = Steps::new("exercises looked at");
            let mut say = |done, all| steps.at(done, all);
            let solutions = own.solutions.as_deref();
            let results = repair::exercises(&mut completer, folder, solutions, limit, &mut say)?;
            (serde_json::to_value(&results)?, repair::exercise_table(&results))
        }
        (None, None) => {
            let sources = texts::sources(&own.repo)?;
            let count = own.count.unwrap_or(COUNT);
            let mut steps = Steps::new("corrections proposed");
            let mut say = |done, all| steps.at(done, all);
            let results =
                corrections::corrections(&mut completer, &sources, count, own.seed, &mut say)?;
            if let Some(path) = &own.fit {
                write_text(path, &serde_json::to_string(&corrections::habits(&results)?)?)?;
            }
            (serde_json::to_value(&results)?, corrections::table(&results))
        }
    };
    if let (Some(path), Some(list)) = (&own.cases, results.as_array()) {
        write(path, list)?;
    }
    let report = json!({
        "results": results,
        "seconds_each": own.time,
        "seed": own.seed,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine::machine(),
    });
    show(own.json, &report, || shown)
}

fn write(path: &Path, cases: &[impl serde::Serialize]) -> Result<()> {
    let lines: Vec<String> = cases.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    write_text(path, &lines.join("\n"))
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, format!("{text}\n"))
        .with_context(|| format!("cannot write {}", path.display()))
}
