//! The trainer, at toy size: gradients reach every parameter, a batch can be learned by heart, a run that
//! was cut off ends like one that was not, and what comes out is a model.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nestling::generation::{
    CancelToken, Flow, GenerateOptions, Generator, Model, ModelSource, Prompt,
};
use nestling::model::config::{Details, ModelConfig};
use nestling::model::engine::Precision;
use nestling::model::family::Family;
use nestling::model::quantize::{FileType, write_gguf};
use nestling::model::safetensors;
use nestling::model::weights::Weights;
use nestling::tokenizer::{self, Tokenizer};
use nestling::train::checkpoint::Progress;
use nestling::train::dataset::{Dataset, ExampleConfig};
use nestling::train::documents::Documents;
use nestling::train::optimizer::OptimizerConfig;
use nestling::train::trainer::{News, Start, TrainConfig, Trainer};

const CODE: &str = "pub fn add(first: i32, second: i32) -> i32 {\n    first + second\n}\n\n\
                    pub fn double(number: i32) -> i32 {\n    add(number, number)\n}\n";

pub(crate) fn setup() -> (Trainer, Tokenizer, Dataset, ModelConfig) {
    let text = CODE.repeat(8);
    let tokenizer = tokenizer::train([text.as_str()].into_iter(), 320).unwrap();
    let documents = Documents::from_texts([("src/lib.rs", 0, text.as_str())]);
    let examples = ExampleConfig { sequence: 48, fim: 0.5, seed: 3, ..Default::default() };
    let data = Dataset::new(documents, &tokenizer, examples).unwrap();
    let model = ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: tokenizer.vocab_size().next_multiple_of(64),
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 16,
        max_position_embeddings: 48,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
        details: Details::default(),
    };
    (trainer(&model, 0.02), tokenizer, data, model)
}

fn trainer(model: &ModelConfig, learning_rate: f64) -> Trainer {
    changed(model, learning_rate, |_| {})
}

fn changed(
    model: &ModelConfig,
    learning_rate: f64,
    change: impl FnOnce(&mut TrainConfig),
) -> Trainer {
    let optimizer = OptimizerConfig { learning_rate, average: 5, ..Default::default() };
    let mut config =
        TrainConfig { batch: 2, warmup: 5, optimizer, seed: 5, ..TrainConfig::default() };
    change(&mut config);
    let settings = serde_json::json!({ "learning_rate": learning_rate });
    Trainer::new(model, config, settings, (2, false), Start::Random).unwrap()
}

/// Trains to the end, whatever happens; what was said beside the figures.
fn outcome(
    trainer: &mut Trainer,
    (tokenizer, data): (&Tokenizer, &Dataset),
    held_out: &Dataset,
    folder: &Path,
    (until, steps): (u64, u64),
) -> (anyhow::Result<Progress>, Vec<String>) {
    let (mut notices, stop) = (Vec::new(), AtomicBool::new(false));
    let mut news = |news: News| match news {
        News::Notice(text) => notices.push(text),
        News::Step { step, .. } => stop.store(step.0 >= until, Ordering::Relaxed),
        News::Evaluated(_) => {}
    };
    let checkpoint = folder.join("checkpoint");
    let place = (checkpoint.as_path(), steps);
    let held_out = Some(held_out);
    let result = trainer.run(tokenizer, (data, held_out), place, Vec::new(), &stop, &mut news);
    (result, notices)
}

/// Trains towards `steps`, stopping after `until`; the loss of every step taken.
pub(crate) fn run(
    trainer: &mut Trainer,
    tokenizer: &Tokenizer,
    data: &Dataset,
    folder: &Path,
    (until, steps): (u64, u64),
) -> Vec<f32> {
    let stop = AtomicBool::new(false);
    let mut losses = Vec::new();
    let checkpoint = folder.join("checkpoint");
    let mut news = |news: News| {
        if let News::Step { step, loss, .. } = news {
            losses.push(loss);
            stop.store(step.0 >= until, Ordering::Relaxed);
        }
    };
    let place = (checkpoint.as_path(), steps);
    trainer.run(tokenizer, (data, Some(data)), place, Vec::new(), &stop, &mut news).unwrap();
    losses
}

pub(crate) fn values(trainer: &Trainer) -> Vec<(String, Vec<f32>)> {
    let weights = trainer.weights(false).into_iter().chain(trainer.weights(true));
    weights.map(|(name, _, values)| (name, values.to_vec())).collect()
}

/// A Hugging Face directory.
pub(crate) fn write_model(
    out: &Path,
    trainer: &Trainer,
    tokenizer: &Tokenizer,
    config: &ModelConfig,
) -> PathBuf {
    std::fs::create_dir(out).unwrap();
    safetensors::write(&out.join("model.safetensors"), &trainer.weights(false)).unwrap();
    std::fs::write(out.join("config.json"), serde_json::to_string(config).unwrap()).unwrap();
    std::fs::write(out.join("tokenizer.json"), tokenizer.to_json().unwrap()).unwrap();
    out.to_path_buf()
}

#[test]
fn every_parameter_moves() {
    let folder = tempfile::tempdir().unwrap();
    let (mut trainer, tokenizer, data, _) = setup();
    let before = values(&trainer);
    // Output projections start at zero, so what lies before them moves from the second step on.
    run(&mut trainer, &tokenizer, &data, folder.path(), (4, 4));
    for ((name, before), (_, after)) in before.iter().zip(values(&trainer)) {
        assert_ne!(*before, after, "{name} did not move");
        assert!(after.iter().all(|x| x.is_finite()), "{name}");
    }
}

#[test]
fn a_little_code_is_learned_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut trainer, tokenizer, data, config) = setup();
    let losses = run(&mut trainer, &tokenizer, &data, folder.path(), (150, 150));
    let late = losses[140..].iter().sum::<f32>() / 10.0;
    assert!(losses[0] > 5.0 && late < 1.0, "{} to {late}", losses[0]);

    // The model directory that comes of it generates, from safetensors and from GGUF alike.
    let out = write_model(&folder.path().join("model"), &trainer, &tokenizer, &config);
    let gguf = folder.path().join("model.gguf");
    let weights = Weights::open(&out).unwrap();
    write_gguf(&weights, "toy", FileType::F32, &gguf).unwrap();
    let from = |path: &Path| {
        let model = Model::load(&ModelSource::Path(path.into()), Precision::Float).unwrap();
        let mut tokens = model.tokenizer.file_header("src/lib.rs");
        tokens.extend(model.tokenizer.encode("pub fn add(first: i32,"));
        let mut generator = Generator::new(model);
        let prompt = Prompt { tokens, ..Prompt::default() };
        let options = GenerateOptions { max_tokens: 12, ..GenerateOptions::default() };
        let mut rule = |_: nestling::generation::Generated<'_>| Flow::Continue;
        generator
            .generate("", &prompt, &options, None, &mut rule, &CancelToken::new())
            .unwrap()
            .text
    };
    let text = from(&out);
    assert!(text.contains("second"), "{text:?}");
    assert_eq!(text, from(&gguf));
}

#[test]
fn a_resumed_run_ends_like_an_unbroken_one() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut trainer, tokenizer, data, _) = setup();
    run(&mut trainer, &tokenizer, &data, whole.path(), (12, 12));
    let (mut first, ..) = setup();
    run(&mut first, &tokenizer, &data, parts.path(), (7, 12));
    let (mut second, ..) = setup();
    run(&mut second, &tokenizer, &data, parts.path(), (12, 12));
    for ((name, a), (_, b)) in values(&trainer).iter().zip(values(&second)) {
        let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart == 0.0, "{name} differs by {apart}");
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut trainer, tokenizer, data, config) = setup();
    run(&mut trainer, &tokenizer, &data, folder.path(), (2, 2));
    let mut other = self::trainer(&config, 0.5);
    let (checkpoint, never) = (folder.path().join("checkpoint"), AtomicBool::new(false));
    let place = (checkpoint.as_path(), 2);
    let result =
        other.run(&tokenizer, (&data, Some(&data)), place, Vec::new(), &never, &mut |_| {});
    let error = result.unwrap_err().to_string();
    assert!(error.contains("learning_rate was 0.02 and is 0.5"), "{error}");
}

#[test]
fn a_longer_run_goes_on_from_before_the_decay() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut trainer, tokenizer, data, _) = setup();
    run(&mut trainer, &tokenizer, &data, whole.path(), (30, 30));
    let (mut first, ..) = setup();
    run(&mut first, &tokenizer, &data, parts.path(), (10, 10));
    let (mut second, ..) = setup();
    let losses = run(&mut second, &tokenizer, &data, parts.path(), (30, 30));
    assert_eq!(losses.len(), 23, "from step 7, where the first run began to cool down");
    assert_eq!(values(&trainer), values(&second));
}

#[test]
fn a_lost_loss_is_taken_back_with_a_lower_rate() {
    let folder = tempfile::tempdir().unwrap();
    let (mut trainer, tokenizer, data, model) = setup();
    run(&mut trainer, &tokenizer, &data, folder.path(), (6, 60));
    // The same settings, but a rate that no model survives.
    let mut wild = self::trainer(&model, 0.02);
    let progress = folder.path().join("checkpoint/progress.json");
    let text = std::fs::read_to_string(&progress).unwrap();
    let text = text.replace("\"learning_rate\":0.02,\"range", "\"learning_rate\":40.0,\"range");
    std::fs::write(&progress, text).unwrap();
    let (mut notices, stop) = (Vec::new(), AtomicBool::new(false));
    let mut news = |news: News| {
        if let News::Notice(text) = news {
            notices.push(text);
        }
    };
    let checkpoint = folder.path().join("checkpoint");
    let place = (checkpoint.as_path(), 60);
    let result = wild.run(&tokenizer, (&data, Some(&data)), place, Vec::new(), &stop, &mut news);
    assert!(notices[0].contains("back to step 6 with 0.5 of the learning rate"), "{notices:?}");
    match result {
        Ok(progress) => assert_eq!(progress.rollbacks as usize, notices.len()),
        Err(error) => assert!(error.to_string().contains("--learning-rate"), "{error}"),
    }
    assert!(checkpoint.join("progress.json").exists());
}

#[test]
fn what_is_lost_before_the_first_minute_goes_back_to_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (_, tokenizer, data, model) = setup();
    let mut wild = self::trainer(&model, 60.0);
    let (_, notices) = outcome(&mut wild, (&tokenizer, &data), &data, folder.path(), (60, 60));
    assert!(notices[0].contains("back to step 0 with 0.5"), "{notices:?}");
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_nothing() {
    let (whole, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut unbroken, tokenizer, data, model) = setup();
    run(&mut unbroken, &tokenizer, &data, whole.path(), (12, 12));
    let always = |config: &mut TrainConfig| config.save_seconds = 0;
    let (mut first, at) = (changed(&model, 0.02, always), full.path().join("checkpoint"));
    run(&mut first, &tokenizer, &data, full.path(), (4, 12));
    // What stands where the new checkpoint is to be written stops every save.
    let obstacle = full.path().join("checkpoint.new");
    std::fs::write(&obstacle, "").unwrap();
    let mut second = changed(&model, 0.02, always);
    let (result, notices) = outcome(&mut second, (&tokenizer, &data), &data, full.path(), (12, 12));
    assert!(notices.len() > 3 && notices[0].contains("MB must be free"), "{notices:?}");
    assert!(notices[0].contains(at.to_str().unwrap()), "{notices:?}");
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.contains("--resume"), "{error}");
    std::fs::remove_file(obstacle).unwrap();
    let mut third = changed(&model, 0.02, always);
    run(&mut third, &tokenizer, &data, full.path(), (12, 12));
    assert_eq!(values(&unbroken), values(&third));
}

#[test]
fn no_longer_improving_cools_down_from_the_best_state() {
    let (_, tokenizer, data, model) = setup();
    // Other text: learning the one by heart makes the other worse.
    let other = "class Shelf:\n    def items(self):\n        return list(self.things)\n".repeat(8);
    let documents = Documents::from_texts([("shelf.py", 0, other.as_str())]);
    let other = Dataset::new(documents, &tokenizer, data.config().clone()).unwrap();
    let careful = |config: &mut TrainConfig| (config.evaluate_every, config.patience) = (5, 4);
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut unbroken = changed(&model, 0.02, careful);
    let (progress, notices) =
        outcome(&mut unbroken, (&tokenizer, &data), &other, whole.path(), (900, 900));
    let progress = progress.unwrap();
    let best = progress.stopped_early.expect("it stops early");
    assert!(notices[0].contains(&format!("from the best state, step {best}, ")), "{notices:?}");
    assert_eq!(progress.step, progress.steps);
    assert_eq!(progress.asked, 900);
    let stable: Vec<_> = progress.held_out.iter().filter(|e| e.step <= best).collect();
    assert!(stable.iter().all(|e| e.best() >= stable[stable.len() - 1].best()), "{stable:?}");

    // Cut off before and after it stopped early, and asked for the same again.
    for until in [best + 7, progress.steps - 1, 900] {
        let mut part = changed(&model, 0.02, careful);
        let (result, _) =
            outcome(&mut part, (&tokenizer, &data), &other, parts.path(), (until, 900));
        if until == 900 {
            let result = result.unwrap();
            assert_eq!(result.held_out, progress.held_out);
            assert_eq!(values(&part), values(&unbroken));
        }
    }
}
