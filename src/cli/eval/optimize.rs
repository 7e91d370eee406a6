//! `nestling eval optimize`: the catalogue of rewrites against its fixtures.

use std::path::PathBuf;

use anyhow::Result;

use super::super::{print, print_json};
use crate::eval::optimize::{FixtureScore, fixtures};
use crate::statistics::Figure;

#[derive(clap::Args)]
pub(in crate::cli) struct OptimizeArgs {
    /// A folder of fixtures (python.toml, rust.toml …): texts before and after each rewrite, and near misses
    #[arg(long, value_name = "DIR")]
    fixtures: PathBuf,
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
    let scores = fixtures(&own.fixtures, own.rules.as_deref(), own.rule.as_deref(), !own.no_run)?;
    if own.json {
        return print_json(&scores);
    }
    for trouble in scores.values().flat_map(|score| &score.trouble) {
        eprintln!("{trouble}\n");
    }
    let mut text = format!(
        "{:<12}{:>7}{:>9}{:>7}{:>18}{:>9}{:>9}{:>6}{:>11}\n",
        "language", "rules", "covered", "hits", "rewritten right", "misses", "matched", "run", "different"
    );
    for (language, score) in &scores {
        let FixtureScore { rules, covered, hits, right, misses, matched, run, different, .. } = score;
        let share = Figure::share(*right, *hits).value;
        text += &format!(
            "{language:<12}{rules:>7}{covered:>9}{hits:>7}{:>18}{misses:>9}{matched:>9}{run:>6}{different:>11}\n",
            format!("{right} ({share:.1} %)")
        );
    }
    print(&text)
}
