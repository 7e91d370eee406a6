//! What a fine-tune came to: as a table, as JSON, as a page with curves and examples.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::data::Split;
use super::search::{Long, Plan, RangeTest, Trial, name_of};
use crate::eval::completion::Answer;
use crate::statistics::{Figure, paired_bootstrap};
use crate::train::checkpoint::Point;
use crate::train::page::{self, escaped};
use crate::train::plot::{Axes, Series, svg};

/// A place where the tuned model is right and the untouched one is not, or the other way round.
#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    /// Path and line.
    pub place: String,
    /// The last lines before the cursor.
    pub before: String,
    /// What stands there.
    pub wanted: String,
    /// What the untouched model said.
    pub was: Option<String>,
    /// What the tuned one says.
    pub is: Option<String>,
    /// Whether the tuned one is right.
    pub better: bool,
}

impl Changed {
    /// All such places among answers to the same questions.
    pub(super) fn among(before: &[Answer], after: &[Answer]) -> Vec<Changed> {
        let pairs = before.iter().zip(after).filter(|(b, a)| b.exact != a.exact);
        let changed = pairs.map(|(b, a)| Changed {
            place: format!("{}:{}", a.path, a.line),
            before: a.before.clone(),
            wanted: a.wanted.clone(),
            was: b.got.clone(),
            is: a.got.clone(),
            better: a.exact,
        });
        changed.collect()
    }
}

/// All that a fine-tune can say of itself.
#[derive(Clone, Debug, Serialize)]
pub struct FinetuneReport {
    /// The repository.
    pub repository: String,
    /// The commit that was read; none for a folder.
    pub revision: Option<String>,
    /// Version of the program.
    pub version: &'static str,
    /// What it ran on.
    pub machine: String,
    /// The model it started from.
    pub base: String,
    /// Where that lies; nothing for the one in the program.
    pub base_path: Option<PathBuf>,
    /// How the texts were divided.
    pub split: Split,
    /// Bytes learnt from.
    pub bytes: u64,
    /// Candidates and steps.
    pub plan: Plan,
    /// The rate that a range test found for each method, with its curve.
    pub rates: Vec<RangeTest>,
    /// All candidates.
    pub trials: Vec<Trial>,
    /// Share of the rests of newer lines that should come out exactly with the untouched model, memory mixed in.
    pub base_exact: f64,
    /// The best candidate's long runs.
    pub longs: Vec<Long>,
    /// The better one of them.
    pub long: Long,
    /// The best candidate.
    pub winner: Trial,
    /// How much of the change was kept, 0 to 1.
    pub strength: f32,
    /// The curve of the last run.
    pub curve: Vec<Point>,
    /// Rests of newer lines that were asked for.
    pub places: usize,
    /// The model in use, if it is another one and completes as many.
    pub beaten_by: Option<String>,
    /// Percent that came out exactly, before.
    pub before: Figure,
    /// And after.
    pub after: Figure,
    /// Points gained.
    pub gain: Figure,
    /// How probable such a gain is if there is none; two-sided.
    pub p: f64,
    /// Bits per byte of general code, before and after.
    pub general: (f64, f64),
    /// Where one of the two is right.
    pub changed: Vec<Changed>,
    /// Why it was installed or not.
    pub verdict: String,
    /// The name under which it is installed and in use.
    pub installed: Option<String>,
    /// Seconds it took, without those it waited.
    pub seconds: f64,
    /// Seconds it waited for somebody else.
    pub waited: f64,
}

impl FinetuneReport {
    /// Whether the gain is certain at 95 %.
    pub fn is_better(&self) -> bool {
        self.beaten_by.is_none() && self.gain.low.is_some_and(|low| low > 0.0)
    }

    /// What stands beside the installed model.
    pub(super) fn card(&self) -> Value {
        let what = format!("fine-tuned on {}, {}", self.repository, name_of(self.winner.method));
        json!({
            "what": what,
            "base": self.base,
            "base_path": self.base_path,
            "revision": self.revision,
            "method": self.winner.method,
            "learning_rate": self.winner.rate,
            "steps": self.long.steps,
            "strength": self.strength,
            "before": { "exact match": self.before.value / 100.0, "general bits per byte": self.general.0 },
            "after": { "exact match": self.after.value / 100.0, "general bits per byte": self.general.1 },
            "p": self.p,
            "version": self.version,
        })
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let figure = |f: &Figure| match f.low.zip(f.high) {
            Some((low, high)) => format!("{:.1} ({low:.1}–{high:.1})", f.value),
            None => format!("{:.1}", f.value),
        };
        let percent = 100.0 * (self.general.1 / self.general.0 - 1.0);
        let last = self.long.strengths.iter().find(|(s, ..)| *s == self.strength);
        let exact = last.map_or(self.base_exact, |(_, exact, _)| *exact);
        let row = |name: &str, before: String, after: String, change: String| {
            vec![name.to_string(), before, after, change]
        };
        let mut rows = vec![row(
            "expected of the search's lines, %",
            format!("{:.1}", 100.0 * self.base_exact),
            format!("{:.1}", 100.0 * exact),
            format!("{:+.1} points", 100.0 * (exact - self.base_exact)),
        )];
        if self.places > 0 {
            rows.push(row(
                &format!("rests of {} newer lines, % exact", self.places),
                figure(&self.before),
                figure(&self.after),
                format!("{} points, p {:.4}", figure(&self.gain), self.p),
            ));
        }
        rows.push(row(
            "bits per byte, general code",
            format!("{:.3}", self.general.0),
            format!("{:.3}", self.general.1),
            format!("{percent:+.1} %"),
        ));
        rows
    }
}

/// The answers of two models to the same questions.
pub(super) struct Compared {
    pub(super) places: usize,
    pub(super) before: Figure,
    pub(super) after: Figure,
    pub(super) gain: Figure,
    pub(super) p: f64,
    pub(super) changed: Vec<Changed>,
}

impl Compared {
    pub(super) fn of(before: &[Answer], after: &[Answer], seed: u64) -> Compared {
        let hit = |exact: bool| f64::from(u8::from(exact));
        let gains: Vec<f64> =
            before.iter().zip(after).map(|(b, a)| 100.0 * (hit(a.exact) - hit(b.exact))).collect();
        let (gain, p) = paired_bootstrap(&gains, seed);
        let share = |answers: &[Answer]| {
            Figure::share(answers.iter().filter(|a| a.exact).count(), answers.len())
        };
        let (places, changed) = (gains.len(), Changed::among(before, after));
        Compared { places, before: share(before), after: share(after), gain, p, changed }
    }
}

pub(super) fn uncertain(gain: Figure, places: usize) -> String {
    format!("the gain of {:+.1} points over {places} lines is not certain at 95 %", gain.value)
}

impl fmt::Display for FinetuneReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {}, {} steps, strength {}",
            self.repository,
            self.winner.name(),
            self.long.steps,
            self.strength
        )?;
        writeln!(f, "{:<36}{:>18}{:>18}   change", "", "before", "after")?;
        for row in self.rows() {
            writeln!(f, "{:<36}{:>18}{:>18}   {}", row[0], row[1], row[2], row[3])?;
        }
        writeln!(f, "{}", self.verdict)?;
        match &self.installed {
            Some(name) => {
                writeln!(f, "installed and in use: {name} (back with `nestling model use default`)")
            }
            None => writeln!(f, "nothing was changed"),
        }
    }
}

/// The page.
///
/// # Errors
/// A picture that cannot be drawn.
pub fn html(report: &FinetuneReport) -> Result<String> {
    let mut page = page::head(&format!("Fine-tune: {}", report.repository));
    page += &format!("<p>{}</p>\n", escaped(&report.verdict));
    page +=
        &page::table(&["", "before", "after", "change"], &[false, true, true, true], report.rows());
    let facts = [
        ("model", report.base.clone()),
        ("commit", report.revision.clone().unwrap_or_default()),
        ("method", name_of(report.winner.method)),
        ("peak learning rate", format!("{:.2e}", report.winner.rate)),
        ("steps", report.long.steps.to_string()),
        ("strength", report.strength.to_string()),
        ("seconds", format!("{:.0}, and {:.0} waited", report.seconds, report.waited)),
        ("program", format!("nestling {}", report.version)),
        ("machine", report.machine.clone()),
    ];
    let facts = facts.map(|(name, value)| vec![name.to_string(), value]);
    page += &page::table(&[], &[false, false], facts);
    for (caption, axes, series) in pictures(report) {
        page += &page::figure(&svg(&axes, &series)?, caption);
    }
    page += "<h2>What changed</h2>\n";
    for changed in &report.changed {
        let sign = if changed.better { "now right" } else { "no longer right" };
        page += &format!(
            "<h3>{} — {sign}</h3>\n<pre>{}<mark>{}</mark></pre>\n",
            escaped(&changed.place),
            escaped(&changed.before),
            escaped(&changed.wanted)
        );
        let said = |text: &Option<String>| text.clone().unwrap_or_default();
        let rows =
            [vec!["before".into(), said(&changed.was)], vec!["after".into(), said(&changed.is)]];
        page += &page::table(&[], &[false, false], rows);
    }
    Ok(page + "</html>\n")
}

type Picture<'a> = (&'static str, Axes<'static>, Vec<Series<'a>>);

fn pictures(report: &FinetuneReport) -> Vec<Picture<'_>> {
    let axes = |title, x, y, log_x| Axes { title, x, y, log_x };
    let range = report.rates.iter().map(|(method, _, curve)| Series {
        name: if method.is_full() { "full" } else { "LoRA" },
        points: curve.iter().map(|&(rate, loss)| (rate, f64::from(loss))).collect(),
        ..Series::default()
    });
    let trial = |trial: &Trial| Series {
        points: trial.scores.iter().map(|&(steps, exact)| (steps as f64, exact)).collect(),
        ..Series::default()
    };
    // One that was given up at once has nothing to show.
    let tried = report.trials.iter().filter(|trial| !trial.scores.is_empty());
    let exact = |long: &Long| long.best(report.general.0).map_or(0.0, |best| best.1);
    let long = Series {
        name: "long runs",
        points: report.longs.iter().map(|long| (long.steps as f64, exact(long))).collect(),
        labels: report.longs.iter().map(|long| format!("{} steps", long.steps)).collect(),
        ..Series::default()
    };
    let strengths = Series {
        points: report.long.strengths.iter().map(|&(s, exact, _)| (f64::from(s), exact)).collect(),
        ..Series::default()
    };
    let loss = Series {
        points: report.curve.iter().map(|p| (p.step as f64, f64::from(p.loss))).collect(),
        ..Series::default()
    };
    vec![
        (
            "The learning-rate range tests: smoothed loss while the rate grows.",
            axes("Range tests", "learning rate", "loss", true),
            range.collect(),
        ),
        (
            "Each candidate after its rounds; those that go on are the better half. Memory mixed in.",
            axes("Candidates", "steps", "share of rests that should come out", false),
            tried.map(trial).chain([long]).collect(),
        ),
        (
            "Between the untouched weights (0) and the tuned ones (1).",
            axes("Strength", "strength", "share of rests that should come out", false),
            vec![strengths],
        ),
        ("The last run.", axes("Training loss", "steps", "nats per token", false), vec![loss]),
    ]
}
