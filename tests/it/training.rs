//! The trainer, at toy size: gradients reach every parameter, a batch can be learned by heart, a run that
//! was cut off ends like one that was not, and what comes out is a model.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nestling::generation::{
    CancelToken, Flow, GenerateOptions, Generator, Model, ModelSource, Prompt,
};
use nestling::model::config::{Family, ModelConfig};
use nestling::model::engine::Precision;
use nestling::model::quantize::{FileType, write_gguf};
use nestling::model::safetensors;
use nestling::model::weights::Weights;
use nestling::tokenizer::{self, Tokenizer};
use nestling::train::corpus::SourceFile;
use nestling::train::dataset::{Dataset, ExampleConfig};
use nestling::train::optimizer::OptimizerConfig;
use nestling::train::trainer::{TrainConfig, Trainer};

const CODE: &str = "pub fn add(first: i32, second: i32) -> i32 {\n    first + second\n}\n\n\
                    pub fn double(number: i32) -> i32 {\n    add(number, number)\n}\n";

fn setup(steps: u64) -> (Trainer, Tokenizer, Dataset, ModelConfig) {
    let text = CODE.repeat(8);
    let tokenizer = tokenizer::train([text.as_str()].into_iter(), 320).unwrap();
    let file =
        SourceFile { path: "src/lib.rs".into(), repository: "toy".into(), language: "rust", text };
    let examples = ExampleConfig { sequence: 48, fim_rate: 0.5, seed: 3 };
    let data = Dataset::new(vec![file], &tokenizer, examples);
    let model = ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: tokenizer.vocab_size().next_multiple_of(64),
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 16,
        max_position_embeddings: 128,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
    };
    let optimizer =
        OptimizerConfig { learning_rate: 0.02, weight_decay: 0.1, clip: 1.0, muon: true };
    let config =
        TrainConfig { batch: 2, sequence: 48, steps, warmup: 5, decay: 0.3, optimizer, seed: 5 };
    (Trainer::new(model.clone(), config).unwrap(), tokenizer, data, model)
}

fn run(
    trainer: &mut Trainer,
    tokenizer: &Tokenizer,
    data: &Dataset,
    folder: &Path,
    until: u64,
) -> Vec<f32> {
    let stop = AtomicBool::new(false);
    let mut losses = Vec::new();
    let result =
        trainer.run(tokenizer, data, data, &folder.join("checkpoint"), &stop, &mut |news| {
            losses.push(news.loss);
            stop.store(news.step >= until, Ordering::Relaxed);
        });
    result.unwrap();
    losses
}

fn values(trainer: &Trainer) -> Vec<(String, Vec<f32>)> {
    let flat = |t: candle_core::Tensor| t.flatten_all().unwrap().to_vec1().unwrap();
    trainer.weights().into_iter().map(|(name, tensor)| (name, flat(tensor))).collect()
}

#[test]
fn every_parameter_moves() {
    let folder = tempfile::tempdir().unwrap();
    let (mut trainer, tokenizer, data, _) = setup(4);
    let before = values(&trainer);
    // Output projections start at zero, so what lies before them moves from the second step on.
    run(&mut trainer, &tokenizer, &data, folder.path(), 4);
    for ((name, before), (_, after)) in before.iter().zip(values(&trainer)) {
        assert_ne!(*before, after, "{name} did not move");
        assert!(after.iter().all(|x| x.is_finite()), "{name}");
    }
}

#[test]
fn a_little_code_is_learned_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut trainer, tokenizer, data, config) = setup(150);
    let losses = run(&mut trainer, &tokenizer, &data, folder.path(), 150);
    let late = losses[140..].iter().sum::<f32>() / 10.0;
    assert!(losses[0] > 5.0 && late < 1.0, "{} to {late}", losses[0]);

    // The model directory that comes of it generates, from safetensors and from GGUF alike.
    let out = folder.path().join("model");
    std::fs::create_dir(&out).unwrap();
    safetensors::write(&out.join("model.safetensors"), &trainer.weights()).unwrap();
    std::fs::write(out.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    std::fs::write(out.join("tokenizer.json"), tokenizer.to_json().unwrap()).unwrap();
    let gguf = folder.path().join("model.gguf");
    write_gguf(&Weights::open(&out).unwrap(), "toy", FileType::F32, &gguf).unwrap();
    let from = |path: &Path| {
        let model = Model::load(&ModelSource::Path(path.into()), Precision::Float).unwrap();
        let mut tokens = model.tokenizer.file_header("src/lib.rs");
        tokens.extend(model.tokenizer.encode("pub fn add(first: i32,"));
        let mut generator = Generator::new(model);
        let prompt = Prompt { tokens, healed: Vec::new() };
        let options = GenerateOptions { max_tokens: 12, ..GenerateOptions::default() };
        let mut rule = |_: nestling::generation::Generated<'_>| Flow::Continue;
        generator.generate("", &prompt, &options, &mut rule, &CancelToken::new()).unwrap().text
    };
    let text = from(&out);
    assert!(text.contains("second"), "{text:?}");
    assert_eq!(text, from(&gguf));
}

#[test]
fn a_resumed_run_ends_like_an_unbroken_one() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut trainer, tokenizer, data, _) = setup(12);
    run(&mut trainer, &tokenizer, &data, whole.path(), 12);
    let (mut first, ..) = setup(12);
    run(&mut first, &tokenizer, &data, parts.path(), 7);
    let (mut second, ..) = setup(12);
    run(&mut second, &tokenizer, &data, parts.path(), 12);
    for ((name, a), (_, b)) in values(&trainer).iter().zip(values(&second)) {
        let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-4, "{name} differs by {apart}");
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut trainer, tokenizer, data, config) = setup(2);
    run(&mut trainer, &tokenizer, &data, folder.path(), 2);
    let optimizer =
        OptimizerConfig { learning_rate: 0.5, weight_decay: 0.1, clip: 1.0, muon: true };
    let other =
        TrainConfig { batch: 2, sequence: 48, steps: 2, warmup: 5, decay: 0.3, optimizer, seed: 5 };
    let mut other = Trainer::new(config, other).unwrap();
    let checkpoint = folder.path().join("checkpoint");
    let never = AtomicBool::new(false);
    let result = other.run(&tokenizer, &data, &data, &checkpoint, &never, &mut |_| {});
    assert!(result.unwrap_err().to_string().contains("other settings"));
}
