//! From folders to a finished model directory: corpus → tokenizer → training → files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};

use crate::model::config::{Family, ModelConfig};
use crate::model::safetensors;
use crate::tokenizer::{self, Tokenizer};

use super::corpus::{Corpus, CorpusReport, SourceFile};
use super::dataset::{Dataset, ExampleConfig};
use super::optimizer::OptimizerConfig;
use super::trainer::{News, TrainConfig, Trainer};

/// A shape with the recipe that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// About 300,000 parameters: the test model.
    Tiny,
    /// About 4 million: what two cores train in two hours.
    Nano,
    /// About 50 million: what a GPU trains in half an hour.
    Base,
}

impl Size {
    /// The model and how it is trained. Hidden sizes of multiples of 256 reach the fast Q8_0 kernels.
    fn recipe(self) -> (ModelConfig, TrainConfig) {
        let (vocab, hidden, ffn, layers, heads, kv_heads, head_dim) = match self {
            Size::Tiny => (1024, 96, 256, 2, 3, 1, 32),
            Size::Nano => (4096, 256, 768, 4, 4, 2, 64),
            Size::Base => (8192, 512, 1536, 16, 8, 4, 64),
        };
        let model = ModelConfig {
            model_type: Family::Qwen3,
            vocab_size: vocab,
            hidden_size: hidden,
            intermediate_size: ffn,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            max_position_embeddings: if self == Size::Tiny { 512 } else { 1024 },
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: true,
        };
        let train = TrainConfig {
            batch: if self == Size::Base { 32 } else { 4 },
            sequence: model.max_position_embeddings,
            steps: 2000,
            warmup: 50,
            decay: 0.3,
            optimizer: OptimizerConfig {
                learning_rate: if self == Size::Tiny { 8e-3 } else { 3e-3 },
                weight_decay: 0.1,
                clip: 1.0,
                muon: true,
            },
            seed: 1,
        };
        (model, train)
    }
}

/// What a person asks for.
pub struct TrainRequest {
    /// Folders and git repositories.
    pub corpus: Vec<PathBuf>,
    /// The model directory to make.
    pub out: PathBuf,
    /// Shape and recipe.
    pub size: Size,
    /// Steps, when given; the recipe's own number otherwise.
    pub steps: Option<u64>,
    /// Seconds that the run may take; sets the steps by a measured throughput when those are not given.
    pub budget: Option<f64>,
    /// Go on from a checkpoint in `out`, if there is one.
    pub resume: bool,
}

/// What a finished (or stopped) run can say about itself.
#[derive(Debug, serde::Serialize)]
pub struct TrainReport {
    /// Kept and dropped files.
    pub corpus: CorpusReport,
    /// Bytes trained on and held out.
    pub bytes: (u64, u64),
    /// Parameters of the model.
    pub parameters: usize,
    /// Steps done and wanted.
    pub steps: (u64, u64),
    /// Tokens seen.
    pub tokens: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Held-out loss in nats per token by step.
    pub held_out: Vec<(u64, f32)>,
    /// Held-out bits per byte at the end.
    pub bits_per_byte: f64,
}

/// Runs the whole recipe. `say` receives progress; nothing is printed here.
pub fn train(
    request: &TrainRequest,
    stop: &AtomicBool,
    say: &mut dyn FnMut(Message),
) -> Result<TrainReport> {
    let mut corpus = Corpus::default();
    for root in &request.corpus {
        corpus.add(root)?;
        say(Message::Collected { root: root.clone(), files: corpus.files.len() });
    }
    if corpus.files.is_empty() {
        bail!("the corpus is empty: none of the files was worth learning from (see --json)");
    }
    let (mut model_config, mut config) = request.size.recipe();
    let checkpoint = request.out.join("checkpoint");
    let earlier = [checkpoint.clone(), checkpoint.with_extension("old")];
    if earlier.iter().any(|folder| folder.exists()) && !request.resume {
        bail!(
            "{} holds the checkpoint of an earlier run: add --resume to go on, or delete it",
            request.out.display()
        );
    }
    std::fs::create_dir_all(&request.out)
        .with_context(|| format!("cannot write {}", request.out.display()))?;
    let (held_out, files) = split(corpus.files);
    let tokenizer = tokenizer_for(&request.out, &files, model_config.vocab_size, say)?;
    model_config.vocab_size = tokenizer.vocab_size().next_multiple_of(64);
    let examples = |fim_rate| ExampleConfig { sequence: config.sequence, fim_rate, seed: 11 };
    let data = Dataset::new(files, &tokenizer, examples(0.7));
    let bytes_per_token = bytes_per_token(&held_out, &tokenizer);
    let held_out = Dataset::new(held_out, &tokenizer, examples(0.0));
    let mut trainer = Trainer::new(model_config.clone(), config.clone())?;
    if let Some(steps) = request.steps {
        config.steps = steps;
    } else if let Some(steps) = super::checkpoint::planned_steps(&checkpoint) {
        config.steps = steps;
    } else if let Some(budget) = request.budget {
        let seconds = trainer.seconds_per_step(&tokenizer, &data)?;
        config.steps = ((budget / seconds) as u64).max(1);
        trainer = Trainer::new(model_config.clone(), config.clone())?;
    }
    trainer.set_steps(config.steps);
    let steps = config.steps;
    let progress = trainer.run(&tokenizer, &data, &held_out, &checkpoint, stop, &mut |news| {
        say(Message::Step { news, steps });
    })?;
    let mut weights = trainer.weights();
    for (_, tensor) in &mut weights {
        *tensor = tensor.contiguous()?;
    }
    safetensors::write(&request.out.join("model.safetensors"), &weights)?;
    write_config(&request.out, &model_config)?;
    let last = progress.held_out.last().map_or(f32::NAN, |(_, loss)| *loss) as f64;
    let report = TrainReport {
        corpus: corpus.report,
        bytes: (data.bytes(), held_out.bytes()),
        parameters: model_config.parameter_count(),
        steps: (progress.step, config.steps),
        tokens: progress.step * (config.batch * config.sequence) as u64,
        seconds: progress.seconds,
        held_out: progress.held_out,
        bits_per_byte: last / std::f64::consts::LN_2 / bytes_per_token,
    };
    std::fs::write(request.out.join("training.json"), serde_json::to_vec_pretty(&report)?)?;
    Ok(report)
}

/// News from [`train`].
pub enum Message {
    /// One root was read; `files` counts all so far.
    Collected {
        /// The root.
        root: PathBuf,
        /// Files kept so far.
        files: usize,
    },
    /// The tokenizer is being trained or was found.
    Tokenizer {
        /// Whether it was there already.
        found: bool,
    },
    /// A step of `steps` is done.
    Step {
        /// What it saw.
        news: News,
        /// Steps of the whole run.
        steps: u64,
    },
}

/// The smallest repositories, up to 2 % of the bytes, are held out; with fewer than five
/// repositories every fiftieth file is.
fn split(files: Vec<SourceFile>) -> (Vec<SourceFile>, Vec<SourceFile>) {
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for file in &files {
        *sizes.entry(file.repository.clone()).or_default() += file.text.len();
    }
    if sizes.len() < 5 {
        let (held, kept): (Vec<_>, Vec<_>) =
            files.into_iter().enumerate().partition(|(i, _)| i % 50 == 0);
        let strip = |v: Vec<(usize, SourceFile)>| v.into_iter().map(|(_, f)| f).collect();
        return (strip(held), strip(kept));
    }
    let total: usize = sizes.values().sum();
    let mut by_size: Vec<(usize, String)> = sizes.into_iter().map(|(n, s)| (s, n)).collect();
    by_size.sort();
    let mut held = std::collections::BTreeSet::new();
    let mut bytes = 0;
    for (size, name) in by_size {
        bytes += size;
        // One at least: a loss over nothing is 0.
        if bytes * 50 > total && !held.is_empty() {
            break;
        }
        held.insert(name);
    }
    files.into_iter().partition(|f| held.contains(&f.repository))
}

/// The tokenizer in `out`, or a new one trained on up to 40 MB of the files.
fn tokenizer_for(
    out: &Path,
    files: &[SourceFile],
    vocab_size: usize,
    say: &mut dyn FnMut(Message),
) -> Result<Tokenizer> {
    let path = out.join("tokenizer.json");
    let found = path.exists();
    say(Message::Tokenizer { found });
    if found {
        return Tokenizer::from_file(&path);
    }
    let total: usize = files.iter().map(|f| f.text.len()).sum();
    let every = total.div_ceil(40_000_000).max(1);
    let texts = files.iter().step_by(every).map(|f| f.text.as_str());
    let tokenizer = tokenizer::train(texts, vocab_size)?;
    std::fs::write(&path, tokenizer.to_json()?)?;
    Ok(tokenizer)
}

fn bytes_per_token(files: &[SourceFile], tokenizer: &Tokenizer) -> f64 {
    let sample = || files.iter().take(50);
    let bytes: usize = sample().map(|f| f.text.len()).sum();
    let tokens: usize = sample().map(|f| tokenizer.encode(&f.text).len()).sum();
    bytes as f64 / tokens.max(1) as f64
}

/// Hugging Face's `config.json`.
fn write_config(out: &Path, config: &ModelConfig) -> Result<()> {
    let mut json = serde_json::to_value(config)?;
    json["architectures"] = serde_json::json!(["Qwen3ForCausalLM"]);
    json["hidden_act"] = "silu".into();
    json["attention_bias"] = false.into();
    json["torch_dtype"] = "float32".into();
    json["eos_token_id"] = 0.into();
    std::fs::write(out.join("config.json"), serde_json::to_vec_pretty(&json)?)?;
    Ok(())
}
