//! How small a model can be made: what each block type costs in divergence, exact lines and speed, and the
//! mixture of types that loses least at a size.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use crate::generation::{Generator, Model, ModelSource};
use crate::model::backprop::Backprop;
use crate::model::engine::Precision;
use crate::model::quantize::{BlockType, BlockTypes, rounded, uniform, write_gguf};
use crate::model::weights::Weights;
use crate::suggest::{CompletionOptions, ModelCompleter};
use crate::train::corpus::SourceFile;

use super::completion::{LineRestOptions, line_rests};
use super::engine;

/// What is asked of a compression.
#[derive(Clone, Debug)]
pub struct CompressionOptions {
    /// Bytes of the matrices at most, as a share of their size in Q8_0.
    pub share: f64,
    /// Points of exact match that may be lost.
    pub max_loss: f64,
    /// Share of the places where the likeliest token must stay the same.
    pub min_agreement: f64,
    /// Places of the exact match.
    pub places: usize,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

/// How one file of the model does beside the original.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CompressionRow {
    /// Its type, or `auto`.
    pub name: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Kullback–Leibler divergence from the original's predictions, nats per token.
    pub divergence: f64,
    /// Share of the tokens where the likeliest next token is the original's.
    pub agreement: f64,
    /// Loss on the calibration text, nats per token.
    pub nats: f64,
    /// Lines completed exactly, of [`CompressionReport::places`].
    pub exact: usize,
    /// Tokens read and written per second.
    pub speed: engine::Speed,
}

/// The original, each type, and the chosen mixture.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CompressionReport {
    /// Places of the exact match.
    pub places: usize,
    /// Tokens of the calibration.
    pub tokens: usize,
    /// The original first.
    pub rows: Vec<CompressionRow>,
    /// Matrices by type in the mixture.
    pub mixture: Vec<(&'static str, usize)>,
    /// Whether the mixture keeps what was asked.
    pub accepted: bool,
}

impl fmt::Display for CompressionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<7}{:>9}{:>11}{:>9}{:>9}{:>9}{:>10}{:>10}",
            "type", "MB", "KL", "top-1 %", "nats", "exact %", "prefill", "decode"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<7}{:>9.2}{:>11.5}{:>9.2}{:>9.4}{:>9.1}{:>10.0}{:>10.0}",
                row.name,
                row.bytes as f64 / 1e6,
                row.divergence,
                100.0 * row.agreement,
                row.nats,
                100.0 * row.exact as f64 / self.places.max(1) as f64,
                row.speed.prefill_tok_s,
                row.speed.decode_tok_s,
            )?;
        }
        let mixture: Vec<String> =
            self.mixture.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        writeln!(
            f,
            "{} tokens, {} places; auto: {} ({})",
            self.tokens,
            self.places,
            mixture.join(", "),
            if self.accepted { "accepted" } else { "refused: it loses more than allowed" }
        )
    }
}

/// Text to compare predictions on, with those of the original.
struct Calibration {
    backprop: Backprop,
    tokens: Vec<u32>,
    sequence: usize,
    vocabulary: usize,
    original: Vec<f32>,
}

/// Distance from the original's predictions.
#[derive(Clone, Copy, Debug)]
struct Distance {
    divergence: f64,
    agreement: f64,
    nats: f64,
}

impl Calibration {
    fn new(weights: &Weights, values: &[&[f32]], files: &[SourceFile]) -> Result<Calibration> {
        let config = &weights.config;
        let sequence = config.max_position_embeddings.min(256);
        // Enough to rank matrices, little enough to try each of them.
        let wanted = if config.parameter_count() < 10_000_000 { 32 } else { 12 } * sequence;
        let tokenizer = weights.tokenizer()?;
        let mut tokens = Vec::new();
        for file in files {
            tokens.extend(tokenizer.file_header(&file.path));
            let text = &file.text[..file.text.floor_char_boundary(file.text.len().min(4000))];
            tokens.extend(tokenizer.encode(text));
            if tokens.len() >= wanted {
                break;
            }
        }
        tokens.truncate((tokens.len() / sequence).min(wanted / sequence) * sequence);
        if tokens.is_empty() {
            bail!("too little text to compare predictions on: name a repository with more source");
        }
        let mut backprop = Backprop::new(config, sequence, rayon::current_num_threads(), false);
        let original = backprop.logits(values, &tokens);
        let vocabulary = original.len() / tokens.len();
        Ok(Calibration { backprop, tokens, sequence, vocabulary, original })
    }

    fn distance(&mut self, values: &[&[f32]]) -> Distance {
        let logits = self.backprop.logits(values, &self.tokens);
        let rows =
            self.original.par_chunks(self.vocabulary).zip(logits.par_chunks(self.vocabulary));
        let sums: Vec<(f64, f64, f64)> = rows
            .enumerate()
            .map(|(at, (original, changed))| {
                let (p, q) = (log_softmax(original), log_softmax(changed));
                let divergence: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
                let last = (at + 1) % self.sequence == 0;
                let target = if last { None } else { self.tokens.get(at + 1) };
                let nats = target.map_or(0.0, |&target| -q[target as usize]);
                (divergence, (best(original) == best(changed)) as u8 as f64, nats)
            })
            .collect();
        let count = sums.len() as f64;
        let sum = |f: fn(&(f64, f64, f64)) -> f64| sums.iter().map(f).sum::<f64>();
        let scored = count - count / self.sequence as f64;
        Distance {
            divergence: sum(|s| s.0) / count,
            agreement: sum(|s| s.1) / count,
            nats: sum(|s| s.2) / scored,
        }
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let total: f64 = logits.iter().map(|&x| (x as f64 - top).exp()).sum();
    logits.iter().map(|&x| x as f64 - top - total.ln()).collect()
}

fn best(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0)
}

/// Compares the block types on `files` and finds the mixture that loses least within the size; writes
/// it to `out` if it keeps what was asked.
///
/// The divergence of each matrix in each type is measured alone; then the cheapest step down per byte
/// saved is taken until the size fits (their sum foretells the whole well while it is small). A
/// mixture that loses too much is taken back a step at a time.
///
/// # Errors
/// Too little text; a model that cannot be written.
pub fn compress(
    source: &Path,
    files: &[SourceFile],
    options: &CompressionOptions,
    out: &Path,
    say: &mut dyn FnMut(&str, usize, usize),
) -> Result<CompressionReport> {
    let weights = Weights::open(source)?;
    let tensors = weights.config.tensors();
    let original: Vec<Vec<f32>> =
        tensors.iter().map(|(name, _)| Ok(weights.vector(name)?)).collect::<Result<_>>()?;
    let views: Vec<&[f32]> = original.iter().map(Vec::as_slice).collect();
    // Predictions are compared on one half of the files, exact lines on the other.
    let halves = files.iter().cloned().enumerate().partition::<Vec<_>, _>(|(i, _)| i % 2 == 0);
    let strip = |half: Vec<(usize, SourceFile)>| half.into_iter().map(|(_, f)| f).collect();
    let (text, places): (Vec<SourceFile>, Vec<SourceFile>) = (strip(halves.0), strip(halves.1));
    let places = vec![("places".to_string(), places)];
    let mut calibration = Calibration::new(&weights, &views, &text)?;

    let mut trial = Trial { weights: &weights, original: &original, places: &places, options };
    let mut rows = vec![trial.original(source, &mut calibration)?];
    for kind in &BlockType::ALL[1..] {
        say(kind.name(), rows.len(), BlockType::ALL.len());
        rows.push(trial.row(kind.name(), &uniform(&weights, *kind), &mut calibration, None)?);
    }

    let steps = steps(&weights, &original, &mut calibration, say)?;
    let q8 = uniform(&weights, BlockType::Q8_0);
    let budget = (size(&weights, &q8) as f64 * options.share) as usize;
    let mut taken = mixture(&weights, &steps, budget);
    let accepted = loop {
        let types = types_of(&weights, &steps[..], &taken);
        let row = trial.row("auto", &types, &mut calibration, Some(out))?;
        let lost = 100.0 * (rows[0].exact as f64 - row.exact as f64) / trial.asked().max(1) as f64;
        let good = lost <= options.max_loss && row.agreement >= options.min_agreement;
        say(&format!("auto: {:.2} MB, {lost:.1} points lost", row.bytes as f64 / 1e6), 1, 1);
        if good || taken.is_empty() {
            rows.push(row);
            break good;
        }
        // The dearest eighth of the steps is taken back.
        let back = taken.len().div_ceil(8);
        taken.truncate(taken.len() - back);
    };
    if !accepted {
        let _ = std::fs::remove_file(out);
    }
    let types = types_of(&weights, &steps, &taken);
    let count = |kind: BlockType| types.values().filter(|&&k| k == kind).count();
    let mixture = BlockType::ALL.into_iter().map(|kind| (kind.name(), count(kind)));
    Ok(CompressionReport {
        places: trial.asked(),
        tokens: calibration.tokens.len(),
        rows,
        mixture: mixture.filter(|(_, count)| *count > 0).collect(),
        accepted,
    })
}

/// One matrix one type smaller.
struct Step {
    tensor: usize,
    to: BlockType,
    /// What it adds to the divergence.
    cost: f64,
    /// What it takes off the size.
    saved: usize,
}

/// All steps of all matrices, those of one matrix in order.
fn steps(
    weights: &Weights,
    original: &[Vec<f32>],
    calibration: &mut Calibration,
    say: &mut dyn FnMut(&str, usize, usize),
) -> Result<Vec<Step>> {
    let tensors = weights.config.tensors();
    let mut steps = Vec::new();
    for (index, (name, shape)) in tensors.iter().enumerate() {
        say("divergence of each matrix", index, tensors.len());
        let mut before = (BlockType::Q8_0.fitting(shape), 0.0);
        for to in BlockType::ALL.into_iter().skip(2) {
            if shape.len() != 2 || to.fitting(shape) != to {
                continue;
            }
            let changed = rounded(weights, name, to)?;
            let mut views: Vec<&[f32]> = original.iter().map(Vec::as_slice).collect();
            views[index] = &changed;
            let divergence = calibration.distance(&views).divergence.max(before.1);
            let (cost, saved) = (divergence - before.1, before.0.bytes(shape) - to.bytes(shape));
            steps.push(Step { tensor: index, to, cost, saved });
            before = (to, divergence);
        }
    }
    Ok(steps)
}

/// Bytes of the matrices in those types.
fn size(weights: &Weights, types: &BlockTypes) -> usize {
    let tensors = weights.config.tensors();
    tensors.iter().filter_map(|(name, shape)| Some(types.get(name)?.bytes(shape))).sum()
}

/// The steps (their indices, cheapest per byte first) that bring Q8_0 down to `budget` bytes.
fn mixture(weights: &Weights, steps: &[Step], budget: usize) -> Vec<usize> {
    let mut left = size(weights, &uniform(weights, BlockType::Q8_0));
    let mut taken: Vec<usize> = Vec::new();
    while left > budget {
        // A step is open when the steps before it of its matrix are taken.
        let open = |i: &usize| {
            let earlier = (0..*i).filter(|&j| steps[j].tensor == steps[*i].tensor);
            !taken.contains(i) && earlier.into_iter().all(|j| taken.contains(&j))
        };
        let price = |i: usize| steps[i].cost / steps[i].saved as f64;
        let next = (0..steps.len()).filter(open).min_by(|&a, &b| price(a).total_cmp(&price(b)));
        let Some(next) = next else { break };
        left -= steps[next].saved;
        taken.push(next);
    }
    taken
}

fn types_of(weights: &Weights, steps: &[Step], taken: &[usize]) -> BlockTypes {
    let tensors = weights.config.tensors();
    let mut types = uniform(weights, BlockType::Q8_0);
    for &step in taken {
        types.insert(tensors[steps[step].tensor].0.clone(), steps[step].to);
    }
    types
}

/// Makes files of the model and measures them.
struct Trial<'a> {
    weights: &'a Weights,
    original: &'a [Vec<f32>],
    places: &'a [(String, Vec<SourceFile>)],
    options: &'a CompressionOptions,
}

impl Trial<'_> {
    fn asked(&self) -> usize {
        self.options.places
    }

    fn original(&mut self, source: &Path, calibration: &mut Calibration) -> Result<CompressionRow> {
        let views: Vec<&[f32]> = self.original.iter().map(Vec::as_slice).collect();
        let distance = calibration.distance(&views);
        let model = Model::load(&ModelSource::Path(source.into()), Precision::Float)?;
        self.measured("f32", distance, model, 4 * self.weights.config.parameter_count() as u64)
    }

    /// Writes the file to `out` or a temporary place, and measures it.
    fn row(
        &mut self,
        name: &str,
        types: &BlockTypes,
        calibration: &mut Calibration,
        out: Option<&Path>,
    ) -> Result<CompressionRow> {
        let tensors = self.weights.config.tensors();
        let changed: Vec<Option<Vec<f32>>> = tensors
            .par_iter()
            .map(|(name, _)| types.get(name).map(|&k| rounded(self.weights, name, k)).transpose())
            .collect::<Result<_>>()?;
        let views = changed.iter().zip(self.original);
        let views: Vec<&[f32]> = views.map(|(c, o)| c.as_deref().unwrap_or(o.as_slice())).collect();
        let distance = calibration.distance(&views);
        let folder = super::sandbox::TemporaryFolder::new()?;
        let path = out.map_or_else(|| folder.path().join("model.gguf"), Path::to_path_buf);
        let title = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        write_gguf(self.weights, &title, types, &path)?;
        let bytes = std::fs::metadata(&path)?.len();
        let model = Model::load(&ModelSource::Path(path), Precision::Quantized)?;
        self.measured(name, distance, model, bytes)
    }

    fn measured(
        &mut self,
        name: &str,
        distance: Distance,
        model: Model,
        bytes: u64,
    ) -> Result<CompressionRow> {
        let speed = engine::measure_rounds(&model, 256, 32, 3)?;
        let options = LineRestOptions {
            count: self.options.places,
            seed: self.options.seed,
            suffix: true,
            show_threshold: 1.0,
        };
        let mut completer =
            ModelCompleter::new(Generator::new(model), CompletionOptions::default());
        let report = line_rests(&mut completer, self.places, &options, &mut |_| {})
            .context("measuring exact lines")?;
        let Distance { divergence, agreement, nats } = distance;
        let exact = report.exact;
        Ok(CompressionRow { name: name.into(), bytes, divergence, agreement, nats, exact, speed })
    }
}
