//! `nestling eval optimize`: the catalogue of rewrites against its fixtures, on programs of others, against itself, and its
//! speed.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::super::train::parse_duration;
use super::super::{print, print_json};
use super::Steps;
use crate::eval::optimize::{FixtureScore, fixtures};
use crate::eval::{machine, projects, speedups};
use crate::statistics::Figure;
use crate::suggest::optimize::{Effort, Rules};

#[derive(clap::Args)]
pub(in crate::cli) struct OptimizeArgs {
    /// A folder of fixtures (python.toml, rust.toml …): texts before and after each rewrite, and near misses
    #[arg(long, value_name = "DIR", required_unless_present_any = ["pairs", "itself", "scan", "projects"])]
    fixtures: Option<PathBuf>,
    /// Slow programs as JSON lines, as the PIE sample has them: the best rewrites of each are proven
    #[arg(long, value_name = "FILE", conflicts_with = "fixtures")]
    pairs: Option<PathBuf>,
    /// So many of the programs, drawn by the seed
    #[arg(long, value_name = "N", requires = "pairs")]
    count: Option<usize>,
    /// Compare programs with themselves so many times: how often noise is called faster
    #[arg(long, value_name = "N", conflicts_with_all = ["fixtures", "pairs"])]
    itself: Option<usize>,
    /// Search folders and tell the speed
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with_all = ["fixtures", "pairs", "itself"])]
    scan: Vec<PathBuf>,
    /// A list of projects (TOML) that are rewritten as a whole, in copies: do their own checks and tests still pass?
    #[arg(long, value_name = "FILE", requires = "root", conflicts_with_all = ["fixtures", "pairs", "itself", "scan"])]
    projects: Option<PathBuf>,
    /// The folder in which the projects of the list lie
    #[arg(long, value_name = "DIR", requires = "projects")]
    root: Option<PathBuf>,
    /// Only projects with this in their name
    #[arg(long, value_name = "NAME", requires = "projects")]
    only: Option<String>,
    /// Time for the inputs of each rewrite, and again for its timings
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    time: f64,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write every case as a line of JSON
    #[arg(long, value_name = "FILE", requires = "pairs")]
    cases: Option<PathBuf>,
    /// A folder of rules to take instead of the catalogue
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Only this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Run no text
    #[arg(long)]
    no_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn measure(own: OptimizeArgs) -> Result<()> {
    let effort = Effort { seconds: own.time, seed: own.seed, ..Effort::default() };
    let mut steps = Steps::new(if own.projects.is_some() { "projects" } else { "programs" });
    let mut say = |done: usize, all: usize| steps.at(done, all);
    if let Some(file) = &own.pairs {
        let cases = speedups::pairs(file, own.count, &effort, &mut say)?;
        if let Some(path) = &own.cases {
            let lines: Result<Vec<String>, _> = cases.iter().map(serde_json::to_string).collect();
            std::fs::write(path, lines?.join("\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        return match own.json {
            true => print_json(&json!({ "cases": cases, "machine": machine::machine() })),
            false => print(&format!("{}{}\n", speedups::table(&cases), machine::machine())),
        };
    }
    if let Some((list, root)) = own.projects.as_ref().zip(own.root.as_ref()) {
        let tried = projects::projects(list, root, own.only.as_deref(), &mut say)?;
        return match own.json {
            true => print_json(&json!({ "projects": tried, "machine": machine::machine() })),
            false => print(&projects::table(&tried)),
        };
    }
    if let Some(times) = own.itself {
        let (measured, faster, ratios) = speedups::itself(times, &effort, &mut say)?;
        return match own.json {
            true => {
                print_json(&json!({ "measured": measured, "faster": faster, "ratios": ratios }))
            }
            false => print(&format!(
                "{measured} of {times} measured against themselves; called faster: {faster}\n"
            )),
        };
    }
    if !own.scan.is_empty() {
        let scan = speedups::scan(&own.scan)?;
        let speed = scan.bytes as f64 / 1e6 / scan.seconds;
        let [middle, late, longest] = scan.menu;
        return match own.json {
            true => print_json(
                &json!({ "scan": scan, "megabytes_per_second": speed, "machine": machine::machine() }),
            ),
            false => print(&format!(
                "{} files, {:.1} MB in {:.2} s: {speed:.1} MB/s ({:.2} s the first time, with compiling the rules); {} rewrites\nmenu of a line: median {middle:.2} ms, p95 {late:.2} ms, longest {longest:.1} ms\n{}\n",
                scan.files,
                scan.bytes as f64 / 1e6,
                scan.seconds,
                scan.first_seconds,
                scan.rewrites,
                machine::machine()
            )),
        };
    }
    let rules = own.rules.as_deref().map(Rules::read).transpose()?;
    let folder = own.fixtures.as_deref().context("a folder of fixtures")?;
    let scores = fixtures(folder, rules.as_ref(), own.rule.as_deref(), !own.no_run)?;
    if own.json {
        return print_json(&scores);
    }
    for trouble in scores.values().flat_map(|score| &score.trouble) {
        eprintln!("{trouble}\n");
    }
    let mut text = format!(
        "{:<12}{:>7}{:>9}{:>7}{:>18}{:>9}{:>9}{:>6}{:>11}\n",
        "language",
        "rules",
        "covered",
        "hits",
        "rewritten right",
        "misses",
        "matched",
        "run",
        "different"
    );
    for (language, score) in &scores {
        let FixtureScore { rules, covered, hits, right, misses, matched, run, different, .. } =
            score;
        let share = Figure::share(*right, *hits).value;
        text += &format!(
            "{language:<12}{rules:>7}{covered:>9}{hits:>7}{:>18}{misses:>9}{matched:>9}{run:>6}{different:>11}\n",
            format!("{right} ({share:.1} %)")
        );
    }
    print(&text)
}
