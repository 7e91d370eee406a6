//! A model beside its smaller versions: size, speed, and what is lost; and the choice of a type for every
//! group of matrices that saves most for least.
//!
//! The search: on one half of the text, the divergence that each group alone causes at Q6_K and Q4_K; then
//! groups become smaller in the order of divergence per byte saved until the size is reached. The
//! judgement: on the other half, the likeliest token must be the original's in 97 % of all places and the
//! rests of lines completed exactly may fall by half a point; where they do not hold, steps are taken back.

mod picture;
mod quality;
mod search;
mod text;

use anyhow::Result;

pub use quality::Distance;
pub use search::Cost;
pub use text::{Texts, moments};

use self::quality::Original;
use super::completion::{self, Mode, Variant, draw};
use super::engine::{Speed, measure};
use super::texts::Repository;
use crate::generation::{Generator, Model};
use crate::model::groups::Part;
use crate::model::quantize::{FileType, Moments, Plan, file_size};
use crate::model::weights::Weights;
use crate::statistics::{percentile, table};
use crate::suggest::{CompletionOptions, ModelCompleter};

/// Share of places, in percent, where the likeliest token must be the original's.
pub const LEAST_TOP1: f64 = 97.0;
/// Points by which exact match may fall when nothing else is asked for.
pub const MAX_LOSS: f64 = 0.5;
/// Tokens for the search: each group is measured twice on them.
const SEARCH_TOKENS: usize = 2048;

/// A limit on the size of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// Bytes.
    Bytes(u64),
    /// Percent of the file in Q8_0.
    Percent(f64),
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name that the file will carry; it counts in its size.
    pub name: String,
    /// One type for all, or `None` for a choice by measurement.
    pub kind: Option<FileType>,
    /// The size that the choice must not exceed. Without one it aims at half of Q8_0's and takes what the
    /// judgement leaves.
    pub max_size: Option<Size>,
    /// Points by which exact match may fall. `None`: no limit for one type, [`MAX_LOSS`] for a choice.
    pub max_loss: Option<f64>,
    /// Places of the exact match.
    pub places: usize,
    /// Seed of the places.
    pub seed: u64,
    /// Rounds of the measurement of speed; the median counts.
    pub rounds: usize,
}

/// One version of the model.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Row {
    /// Its type, or `auto`.
    pub name: &'static str,
    /// Size of the GGUF file.
    pub bytes: u64,
    /// Reading and writing.
    #[serde(flatten)]
    pub speed: Speed,
    /// Distance from the original.
    #[serde(flatten)]
    pub distance: Distance,
    /// Rests of lines completed exactly.
    pub exact: usize,
    /// Types by part.
    pub types: Vec<(Part, String)>,
}

/// All versions, and which one is taken.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// f32, Q8_0, Q6_K, Q4_K and the choice.
    pub rows: Vec<Row>,
    /// Tokens whose prediction was compared.
    pub tokens: usize,
    /// Places of the exact match.
    pub places: usize,
    /// What each group of matrices costs.
    pub costs: Vec<Cost>,
    /// The row that is taken; `None` if nothing holds.
    pub chosen: Option<&'static str>,
    /// Why nothing is taken, or why less was saved than wished.
    pub remark: Option<String>,
    /// What to write.
    #[serde(skip)]
    pub plan: Option<Plan>,
}

struct Bench<'a> {
    weights: &'a Weights,
    texts: &'a Texts,
    options: &'a Options,
    /// Places of the exact match: fewer than asked for in a small text.
    places: usize,
    moments: Moments,
    judged: Original,
}

/// Measures all versions and chooses. `say` hears of what is being done, and how far it is.
pub fn compress(
    weights: &Weights,
    texts: &Texts,
    options: &Options,
    say: &mut dyn FnMut(&'static str, usize, usize),
) -> Result<Report> {
    let original = Model::planned(weights, &Plan::uniform(&weights.config, FileType::F32), "f32")?;
    let judged = Original::new(&original, &texts.judged, usize::MAX)?;
    let calibration = Original::new(&original, &texts.calibration, SEARCH_TOKENS)?;
    let moments = moments(&original, texts)?;
    drop(original);
    let files = Repository::of_files("judged", texts.judged.clone());
    let places = draw(&files, Mode::default(), &[], options.seed, options.places).len();
    let bench = Bench { weights, texts, options, places, moments, judged };
    let mut versions: Vec<(&'static str, Plan)> =
        FileType::ALL.map(|kind| (kind.name(), bench.uniform(kind))).into();
    let mut exact = Vec::new();
    for (done, (_, plan)) in versions.iter().enumerate() {
        say("exact match", done, versions.len());
        exact.push(bench.exact(plan)?);
    }
    let mut costs = Vec::new();
    let (remark, holds) = match options.kind {
        Some(kind) => {
            let at = FileType::ALL.iter().position(|k| *k == kind).unwrap_or(0);
            let lost = options.max_loss.and_then(|most| bench.lost(exact[0], exact[at], most));
            (lost.clone(), lost.is_none())
        }
        None => {
            costs = search::costs(weights, &calibration, &bench.moments, &mut |done, all| {
                say("groups", done, all);
            })?;
            let choice = bench.choose(&costs, exact[0])?;
            versions.push(("auto", choice.plan));
            exact.push(choice.exact);
            (choice.remark, choice.holds)
        }
    };
    let chosen = holds.then(|| options.kind.map_or("auto", FileType::name));
    let rows = bench.rows(&versions, &exact, say)?;
    let plan = chosen.and_then(|name| versions.into_iter().find(|v| v.0 == name)).map(|v| v.1);
    let (tokens, places) = (bench.judged.tokens(), bench.places);
    Ok(Report { rows, tokens, places, costs, chosen, remark, plan })
}

struct Choice {
    plan: Plan,
    exact: usize,
    holds: bool,
    remark: Option<String>,
}

impl Bench<'_> {
    fn uniform(&self, kind: FileType) -> Plan {
        let moments = self.moments.clone();
        Plan { moments, ..Plan::uniform(&self.weights.config, kind) }
    }

    fn exact(&self, plan: &Plan) -> Result<usize> {
        let model = Model::planned(self.weights, plan, "candidate")?;
        let options = CompletionOptions::default();
        let (places, seed) = (self.places, self.options.seed);
        let mut completer = ModelCompleter::new(Generator::new(model), options);
        let files = [Repository::of_files("judged", self.texts.judged.clone())];
        let asked = completion::Options { places, seed, ..completion::Options::default() };
        let variants = &mut [(String::new(), &mut completer as &mut dyn Variant)];
        let report = completion::run(variants, &files, &asked, &mut |_, _| {})?;
        Ok(report.answers[0].iter().filter(|answer| answer.exact).count())
    }

    /// Why a version loses too much, if it does.
    fn lost(&self, original: usize, exact: usize, most: f64) -> Option<String> {
        let points = |exact: usize| 100.0 * exact as f64 / self.places.max(1) as f64;
        let loss = points(original) - points(exact);
        (loss > most + 1e-9)
            .then(|| format!("exact match falls by {loss:.2} points, at most {most} are allowed"))
    }

    /// Takes the steps that the size asks for, and takes back those that the judgement does not allow.
    fn choose(&self, costs: &[Cost], original: usize) -> Result<Choice> {
        let steps = search::steps(costs);
        let plan = |n: usize| search::plan_after(self.weights, &self.moments, &steps[..n]);
        let config = &self.weights.config;
        let full = file_size(self.weights, &self.options.name, &plan(0))?;
        let head = full - plan(0).tensor_bytes(config);
        let size = |n: usize| head + plan(n).tensor_bytes(config);
        let limit = match self.options.max_size.unwrap_or(Size::Percent(50.0)) {
            Size::Bytes(bytes) => bytes,
            Size::Percent(percent) => (full as f64 * percent / 100.0) as u64,
        };
        let mut wished = 0;
        while wished < steps.len() && size(wished) > limit {
            wished += 1;
        }
        let (must, reachable) = (self.options.max_size.is_some(), size(wished) <= limit);
        let most = self.options.max_loss.unwrap_or(MAX_LOSS);
        let mut engine = Model::planned(self.weights, &plan(0), "auto")?.engine;
        let mut at = plan(0);
        let mut top1 = |n: usize| -> Result<f64> {
            let wanted = plan(n);
            for (group, kind) in &wanted.kinds {
                if at.kinds.get(group) != Some(kind) {
                    engine.replan(self.weights, &wanted, *group)?;
                }
            }
            at = wanted;
            Ok(self.judged.distance(&engine)?.top1)
        };
        let mut taken = match must {
            true => wished,
            false => search::most_that_hold(wished, |n| Ok(top1(n)? >= LEAST_TOP1))?,
        };
        loop {
            let (agreement, exact) = (top1(taken)?, self.exact(&plan(taken))?);
            let too_far = (agreement < LEAST_TOP1).then(|| {
                format!("the likeliest token is the original's in {agreement:.1} % of all places, {LEAST_TOP1} % are needed")
            });
            let reason = too_far.or_else(|| self.lost(original, exact, most));
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let unreachable = || {
                let (limit, least) = (megabytes(limit), megabytes(size(steps.len())));
                format!("{limit:.2} MB cannot be reached, {least:.2} MB is the least")
            };
            let holds = reason.is_none() && (reachable || !must);
            if holds || must || taken == 0 {
                let remark = match reason {
                    _ if must && !reachable => Some(unreachable()),
                    Some(reason) => Some(reason),
                    None if taken < wished => Some(format!(
                        "{:.2} MB would lose too much: steps were taken back until quality held",
                        megabytes(size(wished))
                    )),
                    None if !reachable => Some(unreachable()),
                    None => None,
                };
                return Ok(Choice { plan: plan(taken), exact, holds, remark });
            }
            taken -= (taken / 8).max(1);
        }
    }

    fn rows(
        &self,
        versions: &[(&'static str, Plan)],
        exact: &[usize],
        say: &mut dyn FnMut(&'static str, usize, usize),
    ) -> Result<Vec<Row>> {
        let models = versions
            .iter()
            .map(|(name, plan)| Ok(Model::planned(self.weights, plan, name)?))
            .collect::<Result<Vec<_>>>()?;
        let mut speeds = vec![(Vec::new(), Vec::new()); models.len()];
        // In turns, so that a machine that slows down slows all.
        for round in 0..self.options.rounds.max(1) {
            say("rounds of speed", round, self.options.rounds);
            for (model, (prefill, decode)) in models.iter().zip(&mut speeds) {
                let speed = measure(model, 512, 64)?;
                prefill.push(speed.prefill_tok_s);
                decode.push(speed.decode_tok_s);
            }
        }
        let each = versions.iter().zip(&models).zip(speeds).zip(exact);
        each.map(|((((name, plan), model), (mut prefill, mut decode)), &exact)| {
            Ok(Row {
                name,
                bytes: file_size(self.weights, &self.options.name, plan)?,
                speed: Speed {
                    prefill_tok_s: percentile(&mut prefill, 0.5),
                    decode_tok_s: percentile(&mut decode, 0.5),
                },
                distance: self.judged.distance(&model.engine)?,
                exact,
                types: model.types.clone(),
            })
        })
        .collect()
    }
}

impl Report {
    /// Size against quality and speed, as a self-contained SVG.
    pub fn picture(&self) -> String {
        picture::draw(self)
    }

    fn percent(&self, exact: usize) -> f64 {
        100.0 * exact as f64 / self.places.max(1) as f64
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head =
            "type,MB,of q8_0,prefill tok/s,decode tok/s,KL nats,top-1 %,bits per byte,exact %";
        let mut rows = vec![head.split(',').map(String::from).collect::<Vec<_>>()];
        let full = self.rows.iter().find(|row| row.name == "q8_0").map_or(1, |row| row.bytes);
        for row in &self.rows {
            rows.push(vec![
                format!("{}{}", row.name, if self.chosen == Some(row.name) { " *" } else { "" }),
                format!("{:.2}", row.bytes as f64 / 1e6),
                format!("{:.0} %", 100.0 * row.bytes as f64 / full as f64),
                format!("{:.0}", row.speed.prefill_tok_s),
                format!("{:.0}", row.speed.decode_tok_s),
                format!("{:.5}", row.distance.kl),
                format!("{:.2}", row.distance.top1),
                format!("{:.4}", row.distance.bits_per_byte),
                format!("{:.2}", self.percent(row.exact)),
            ]);
        }
        f.write_str(&table(&rows))?;
        writeln!(f, "{} tokens compared, {} rests of lines", self.tokens, self.places)?;
        if let Some(row) = self.rows.iter().find(|row| row.name == "auto") {
            let types = row.types.iter().map(|(part, types)| format!("{}: {types}", part.name()));
            writeln!(f, "auto: {}", types.collect::<Vec<_>>().join("; "))?;
        }
        match (&self.remark, self.chosen) {
            (Some(remark), Some(_)) => writeln!(f, "note: {remark}"),
            (Some(remark), None) => writeln!(f, "refused: {remark}"),
            _ => Ok(()),
        }
    }
}
