//! From folders to a finished model directory: corpus → tokenizer → shape → training → files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::model::config::ModelConfig;
use crate::model::estimate::free_memory;
use crate::model::lora::Base;
use crate::model::weights::Weights;
use crate::tokenizer::{self, Tokenizer};

use super::autotune::{self, Candidate, LADDER, Rung};
use super::checkpoint::{self, Progress};
use super::dataset::Dataset;
use super::device::Gradients;
use super::documents::Documents;
use super::footprint::Memory;
use super::output::{write_config, write_model, write_tensors};
use super::prepare::{CorpusReport, Prepared, prepare};
use super::recipe::{Recipe, Shape};
use super::trainer::{News, Start, TrainConfig, Trainer};

/// What a person asks for.
pub struct TrainRequest {
    /// Folders, git repositories, and lists of them.
    pub corpus: Vec<PathBuf>,
    /// The model directory to make.
    pub out: PathBuf,
    /// A rung of the ladder; `None` lets corpus and budget decide.
    pub size: Option<String>,
    /// Changes to the preset, as in a recipe file.
    pub changes: toml::Table,
    /// Steps, when given.
    pub steps: Option<u64>,
    /// Seconds that training may take; sets the steps by measurement when those are not given.
    pub budget: Option<f64>,
    /// Find the peak learning rate by a range test; by default if no rate is asked for and the test
    /// takes at most 3 % of the run.
    pub range_test: Option<bool>,
    /// Start from this model's weights and tokenizer instead of from nothing.
    pub start: Option<PathBuf>,
    /// Go on from the checkpoint in `out`.
    pub resume: bool,
    /// Compute on the first CUDA device.
    pub cuda: bool,
    /// Write this many rows of examples for another trainer instead of training.
    pub export_rows: Option<u64>,
}

/// What a finished (or stopped) run can say about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainReport {
    /// Kept and dropped files.
    pub corpus: CorpusReport,
    /// The recipe as it was carried out.
    pub recipe: Recipe,
    /// What the other sizes would have come to, if the size was chosen.
    pub candidates: Vec<Candidate>,
    /// Bytes trained on and held out.
    pub bytes: (u64, u64),
    /// Parameters of the model.
    pub parameters: usize,
    /// Tokens seen.
    pub tokens: u64,
    /// Curves and everything else that was measured.
    pub progress: Progress,
    /// Entries of the embedding table.
    pub vocabulary: usize,
    /// Held-out bits per byte at the last evaluation, if there was one.
    pub bits_per_byte: Option<f64>,
    /// Whether the averaged weights were the better ones, and were written.
    pub averaged: bool,
    /// Layers are computed again in the backward pass, to save memory.
    pub recompute: bool,
    /// Cores that trained.
    pub cores: usize,
}

/// News from [`train`].
pub enum Message {
    /// The corpus is being read: source, sources done and all, files kept, bytes read.
    Reading(String, (usize, usize), u64, u64),
    /// The corpus is prepared.
    Prepared(CorpusReport),
    /// Something that is decided or begun, in words.
    Note(String),
    /// Rows exported so far.
    Exported(u64),
    /// News of the run.
    Training(News),
}

/// A range test is worth this share of a run.
const RANGE_TEST_SHARE: f64 = 0.03;
const RANGE_TEST_STEPS: u64 = 60;
/// Rows in one exported file: 16 MB at 1,025 16-bit ids.
const EXPORT_FILE_ROWS: u64 = 7800;

/// Runs the whole recipe. `say` receives progress; nothing is printed here.
///
/// # Errors
/// An unusable corpus, a checkpoint in the way (or none to resume), a budget too small for any model, a
/// full disk, a loss that is lost for good. The checkpoint survives all of them.
pub fn train(
    request: &TrainRequest,
    stop: &AtomicBool,
    say: &mut dyn FnMut(Message),
) -> Result<Option<TrainReport>> {
    let out = &request.out;
    let checkpoint = out.join("checkpoint");
    let before = open_folder(request, &checkpoint)?;
    let start = request.start.as_deref().map(Weights::open).transpose()?;
    start.as_ref().map(|weights| weights.config.trainable()).transpose()?;
    // Filters and shares are known before the size is.
    let mut recipe = Recipe::new(&LADDER[2], &[&request.changes])?;
    let prepared = prepare(&request.corpus, &out.join("data"), &recipe.prepare, stop, &mut |n| {
        let (source, bytes) = (n.source.to_string(), n.read_bytes);
        say(Message::Reading(source, n.sources, n.kept.files, bytes));
    })?;
    say(Message::Prepared(prepared.report.clone()));
    let cores = rayon::current_num_threads();
    let mut candidates = Vec::new();
    if before.is_some() {
        let text = std::fs::read_to_string(out.join(RECIPE))
            .with_context(|| format!("{} is gone: start anew", out.join(RECIPE).display()))?;
        let table: toml::Table = toml::from_str(&text)?;
        let size = table.get("size").and_then(|size| size.as_str()).unwrap_or_default();
        if let Some(other) = request.size.as_deref().filter(|asked| *asked != size) {
            bail!("this run has the size {size}: --resume cannot make it {other}");
        }
        recipe = Recipe::new(&LADDER[2], &[&table, &request.changes])?;
    } else if let Some(weights) = &start {
        recipe.model = Shape::of(&weights.config);
        recipe.size = AS_GIVEN.into();
    } else {
        let rung = rung(request, &prepared, cores, &mut candidates, say)?;
        recipe = Recipe::new(rung, &[&request.changes])?;
    }
    let size = recipe.model.vocab_size;
    let tokenizer = tokenizer_for(out, &prepared.train, (size, before.is_some()), &start, say)?;
    let config = out.join("config.json");
    let model = match &start {
        _ if before.is_some() && config.exists() => {
            let text = std::fs::read_to_string(&config);
            let text = text.with_context(|| format!("cannot read {}", config.display()))?;
            ModelConfig::from_json(&text).with_context(|| format!("{}", config.display()))?
        }
        Some(weights) => ModelConfig {
            max_position_embeddings: recipe.examples.sequence,
            ..weights.config.clone()
        },
        None => recipe.model(tokenizer.vocab_size().next_multiple_of(64))?,
    };
    let Prepared { train, held_out, report: corpus } = prepared;
    let bytes_per_token = held_out.bytes_per_token(&tokenizer);
    let held_out = match held_out.bytes() {
        0 => {
            say(Message::Note("nothing is held out: the model is not evaluated".into()));
            None
        }
        _ => Some(Dataset::new(held_out, &tokenizer, recipe.examples.plain())?),
    };
    let data = Dataset::new(train, &tokenizer, recipe.examples.clone())?;
    let workers = cores.min(recipe.train.batch);
    let adapts = !recipe.train.method.is_full();
    let frozen = start.as_ref().filter(|_| adapts);
    let base = frozen.map_or(0, Base::bytes_of);
    let recompute = fit_memory(&model, &recipe.train, workers, base, say)?;
    let bytes = data.bytes();
    let settings = |recipe: &Recipe| {
        let mut settings = serde_json::json!({
            "recipe": { "model": recipe.model, "train": recipe.train, "examples": recipe.examples },
            "corpus": { "bytes": bytes },
        });
        settings["recipe"]["train"]["save_seconds"].take();
        settings
    };
    let named = |name: &str| -> Result<Vec<f32>> {
        let weights = start.as_ref().context("no model to start from")?;
        Ok(weights.dense(name)?.flatten_all()?.to_vec1()?)
    };
    let from = match (&start, frozen) {
        (_, Some(weights)) => Start::Base(Arc::new(Base::load(weights)?)),
        (Some(_), None) => Start::Tensors(&named),
        (None, None) => Start::Random,
    };
    let (config, cores_and_memory) = (recipe.train.clone(), (workers, recompute));
    let mut trainer = Trainer::new(&model, config, settings(&recipe), cores_and_memory, from)?;
    if let Some(rows) = request.export_rows {
        files::write(&out.join(RECIPE), recipe.to_toml()?.as_bytes())?;
        write_config(out, &model)?;
        let folder = out.join("rows");
        data.export(&tokenizer, rows, EXPORT_FILE_ROWS, &folder, |n| say(Message::Exported(n)))?;
        // Both trainers start from the same weights, and a new adapter leaves them as they are.
        write_tensors(&out.join("initial.safetensors"), &trainer.merged(false, 1.0)?)?;
        return Ok(None);
    }
    if request.cuda {
        trainer.set_gradients(Gradients::cuda(&model, recipe.examples.sequence)?);
    }
    let steps = match (request.steps, request.budget, &before) {
        (Some(steps), ..) => steps,
        (None, _, Some(progress)) => progress.asked,
        (None, Some(budget), None) => {
            ((budget / trainer.seconds_per_step(&tokenizer, &data)?) as u64).max(1)
        }
        (None, None, None) => 2000,
    };
    let mut curve = Vec::new();
    let asked = request.changes.get("train").and_then(|t| t.get("optimizer"));
    let asked = asked.and_then(|o| o.get("learning_rate")).is_some();
    let affordable = RANGE_TEST_STEPS as f64 <= RANGE_TEST_SHARE * steps as f64;
    if before.is_none() && request.range_test.unwrap_or(!asked && affordable) {
        let prior = recipe.train.optimizer.learning_rate;
        let (tested, rate) =
            trainer.range_test(&tokenizer, &data, prior, RANGE_TEST_STEPS, stop)?;
        say(Message::Note(format!("range test: learning rate {rate:.2e} (preset {prior:.2e})")));
        // Whoever repeats the run repeats what was found.
        recipe.train.optimizer.learning_rate = rate;
        trainer.set_learning_rate(rate, settings(&recipe));
        curve = tested;
    }
    if before.is_none() {
        if stop.load(Ordering::Relaxed) {
            bail!("stopped before the first step; nothing is to be resumed");
        }
        files::write(&out.join(RECIPE), recipe.to_toml()?.as_bytes())?;
        write_config(out, &model)?;
    }
    let progress = trainer.run(
        &tokenizer,
        (&data, held_out.as_ref()),
        (&checkpoint, steps),
        curve,
        stop,
        &mut |news| say(Message::Training(news)),
    )?;
    let last = progress.held_out.last().copied();
    let averaged = last.is_some_and(|e| e.average < e.loss);
    let report = TrainReport {
        corpus,
        candidates,
        bytes: (data.bytes(), held_out.as_ref().map_or(0, Dataset::bytes)),
        vocabulary: model.vocab_size,
        parameters: model.parameter_count(),
        tokens: progress.step * (recipe.train.batch * recipe.examples.sequence) as u64,
        bits_per_byte: last.map(|e| e.best() as f64 / std::f64::consts::LN_2 / bytes_per_token),
        progress,
        averaged,
        recompute,
        cores,
        recipe,
    };
    if let Some(mut adapter) = trainer.adapter(averaged) {
        adapter.base_name = request.start.as_ref().map(|path| path.display().to_string());
        adapter.write(&out.join("adapter"))?;
    }
    write_model(out, &model, &trainer.merged(averaged, 1.0)?, &report)?;
    Ok(Some(report))
}

const RECIPE: &str = "train.toml";
/// The size of a run that starts from a given model.
pub(super) const AS_GIVEN: &str = "as given";

/// Makes the model directory, or looks what an earlier run left in it.
fn open_folder(request: &TrainRequest, checkpoint: &Path) -> Result<Option<Progress>> {
    let out = &request.out;
    if out.exists() && !out.is_dir() {
        bail!("{} is a file: --out names the directory to make", out.display());
    }
    let before = checkpoint::progress(checkpoint)?;
    if before.is_some() && !request.resume {
        bail!(
            "{} holds the checkpoint of an earlier run: add --resume to go on, or delete it",
            out.display()
        );
    }
    if before.is_none() && request.resume {
        bail!("{} holds no checkpoint to resume: leave --resume out", out.display());
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot write {}", out.display()))?;
    Ok(before)
}

/// The rung that was asked for, or the one that corpus and budget are worth.
fn rung(
    request: &TrainRequest,
    prepared: &Prepared,
    cores: usize,
    candidates: &mut Vec<Candidate>,
    say: &mut dyn FnMut(Message),
) -> Result<&'static Rung> {
    let names = || LADDER.map(|rung| rung.name).join(", ");
    if let Some(name) = &request.size {
        return Rung::by_name(name)
            .with_context(|| format!("there is no size {name:?}; sizes: auto, {}", names()));
    }
    let Some(budget) = request.budget else {
        bail!("--size auto needs --budget, as in --budget 2h; or name a size: {}", names());
    };
    let speed = autotune::probe(cores);
    // Plain source has about 3.3 bytes to a token.
    let unique = prepared.train.bytes() as f64 / 3.3;
    *candidates = autotune::candidates(budget, speed, unique);
    let Some(rung) = autotune::choose(candidates) else {
        let least = &LADDER[0];
        let tokens = (100 * least.batch * least.sequence) as f64;
        let seconds = tokens * autotune::flops_per_token(&least.model()) / speed;
        bail!(
            "a budget of {budget:.0} s is too small for any model: the smallest ({}) needs {:.0} s here",
            least.name,
            seconds.ceil()
        );
    };
    say(Message::Note(format!(
        "size {}: this machine does {:.0} billion operations a second, the corpus has about {:.1} million \
         tokens, and of all sizes this one should end lowest",
        rung.name,
        speed / 1e9,
        unique / 1e6
    )));
    Ok(rung)
}

/// Whether layers must be computed again for the buffers to fit into the free memory.
fn fit_memory(
    model: &ModelConfig,
    config: &TrainConfig,
    workers: usize,
    base: usize,
    say: &mut dyn FnMut(Message),
) -> Result<bool> {
    let need = |recompute| Memory::of(model, config, (workers, recompute), base).total();
    let free = free_memory().map_or(usize::MAX, |free| free as usize) / 10 * 8;
    if need(false) <= free {
        return Ok(false);
    }
    if need(true) > free {
        bail!(
            "this model needs {} MB to train and {} MB are free: choose a smaller --size, or a shorter \
             examples.sequence in --config",
            need(true) / 1_000_000,
            free / 1_000_000
        );
    }
    say(Message::Note(format!(
        "{} MB are free: layers are computed twice instead of kept",
        free / 1_000_000
    )));
    Ok(true)
}

/// The one in `out` of a run that is resumed, that of the model to start from, one of the wanted size in
/// `out`, or a new one trained on up to 40 MB.
fn tokenizer_for(
    out: &Path,
    files: &Documents,
    (vocab_size, resumes): (usize, bool),
    start: &Option<Weights>,
    say: &mut dyn FnMut(Message),
) -> Result<Tokenizer> {
    let path = out.join("tokenizer.json");
    let found = if path.exists() { Some(Tokenizer::from_file(&path)?) } else { None };
    match found {
        Some(found) if resumes => return Ok(found),
        None if resumes => bail!("{} is gone: start anew", path.display()),
        Some(found) if start.is_none() && found.vocab_size() == vocab_size => {
            say(Message::Note(format!("taking the tokenizer {}", path.display())));
            return Ok(found);
        }
        _ => {}
    }
    let tokenizer = match start {
        Some(weights) => weights.tokenizer()?,
        None => {
            say(Message::Note(format!("training the tokenizer: {vocab_size} tokens")));
            let every = files.bytes().div_ceil(40_000_000).max(1) as usize;
            let texts: Vec<String> =
                (0..files.list().len()).step_by(every).map(|i| files.text(i)).collect();
            tokenizer::train(texts.iter().map(String::as_str), vocab_size)?
        }
    };
    files::write(&path, tokenizer.to_json()?.as_bytes())?;
    Ok(tokenizer)
}
