//! Adapters: their gradients against the graph's, a run over a frozen base, the files of PEFT, and what is
//! refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use nestling::generation::{Model, ModelSource};
use nestling::model::backprop::Backprop;
use nestling::model::config::ModelConfig;
use nestling::model::engine::{Engine, Precision};
use nestling::model::lora::{Base, Method};
use nestling::model::ops::IGNORE;
use nestling::model::parameters::Parameters;
use nestling::model::peft::Adapter;
use nestling::model::quantize::{FileType, write_gguf};
use nestling::model::safetensors;
use nestling::model::weights::Weights;
use nestling::tokenizer::Tokenizer;
use nestling::train::dataset::Dataset;
use nestling::train::device::Gradients;
use nestling::train::footprint::Memory;
use nestling::train::optimizer::OptimizerConfig;
use nestling::train::trainer::{Start, TrainConfig, Trainer};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::parity::{FAMILIES, close, folder};
use crate::training::{run, setup, values, write_model};

const METHOD: Method = Method::Lora { rank: 3, alpha: 6.0 };

/// Factors in the order of the method, none of them zero.
fn factors(config: &ModelConfig) -> Vec<Vec<f32>> {
    let tensors = METHOD.tensors(config);
    let wave = |at: usize, i: usize| (((at * 7919 + i * 104_729) % 997) as f32 / 997.0 - 0.5) * 0.2;
    tensors
        .iter()
        .enumerate()
        .map(|(at, (_, shape))| (0..shape.iter().product()).map(|i| wave(at, i)).collect())
        .collect()
}

fn slices(list: &[Vec<f32>]) -> Vec<&[f32]> {
    list.iter().map(Vec::as_slice).collect()
}

#[test]
fn gradients_of_adapters_equal_those_of_the_graph() {
    for family in FAMILIES {
        let weights = Weights::open(&folder(family)).unwrap();
        let config = &weights.config;
        let factors = factors(config);
        let tokens: Vec<u32> = (0..3 * 80).map(|i| i * 91 % 256).collect();
        let mut targets: Vec<u32> = (0..3 * 80).map(|i| i * 57 % 256).collect();
        targets[7..90].fill(IGNORE);
        for base in [Base::load(&weights).unwrap(), Base::load_small(&weights).unwrap()] {
            let parameters = METHOD.parameters(Some(&base), &slices(&factors));
            let mut graph = Gradients::graph(config, 80, Device::Cpu);
            let loss = graph.loss_and_gradients(&parameters, &tokens, &targets).unwrap();
            for (workers, recompute) in [(1, false), (2, false), (2, true)] {
                let mut ours = Backprop::new(config, METHOD, 80, workers, recompute);
                for _again in 0..2 {
                    close(
                        &[ours.loss_and_gradients(&parameters, &tokens, &targets)],
                        &[loss],
                        1e-5,
                    );
                    assert_eq!(ours.gradients().len(), factors.len());
                    let names = METHOD.tensors(config);
                    let pairs = ours.gradients().iter().zip(graph.gradients());
                    for ((name, _), (ours, theirs)) in names.iter().zip(pairs) {
                        let size = theirs.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
                        assert_eq!(ours.len(), theirs.len());
                        for (a, b) in ours.iter().zip(theirs) {
                            assert!((a - b).abs() < 1e-3 * size, "{family} {name}: {a} and {b}");
                        }
                    }
                }
                let nats = ours.nats(&parameters, &tokens, &targets) / (240.0 - 83.0);
                close(&[nats as f32], &[loss], 1e-5);
            }
        }
        assert!(Base::load_small(&weights).unwrap().bytes() * 3 < Base::bytes_of(&weights));
    }
}

/// A trained model directory, and what it was trained on.
struct Ground {
    folder: TempDir,
    model: PathBuf,
    tokenizer: Tokenizer,
    data: Dataset,
    config: ModelConfig,
}

fn ground() -> Ground {
    let folder = tempdir().unwrap();
    let (mut trainer, tokenizer, data, config) = setup();
    run(&mut trainer, &tokenizer, &data, &folder.path().join("full"), (6, 6));
    let model = write_model(&folder.path().join("model"), &trainer, &tokenizer, &config);
    Ground { folder, model, tokenizer, data, config }
}

impl Ground {
    fn base(&self) -> Arc<Base> {
        Arc::new(Base::load(&Weights::open(&self.model).unwrap()).unwrap())
    }

    fn train_config(&self, method: Method) -> TrainConfig {
        let optimizer = OptimizerConfig::adamw(0.01, 0.01);
        TrainConfig { method, batch: 2, warmup: 5, optimizer, ..TrainConfig::default() }
    }

    fn trainer(&self, method: Method) -> Trainer {
        self.over(self.base(), method)
    }

    fn over(&self, base: Arc<Base>, method: Method) -> Trainer {
        let settings = json!({ "method": method });
        let config = self.train_config(method);
        Trainer::new(&self.config, config, settings, (2, false), Start::Base(base)).unwrap()
    }

    fn run(&self, trainer: &mut Trainer, name: &str, place: (u64, u64)) -> Vec<f32> {
        run(trainer, &self.tokenizer, &self.data, &self.folder.path().join(name), place)
    }

    /// An adapter trained for that many steps, in a folder.
    fn adapter(&self, steps: u64) -> (Trainer, PathBuf) {
        let mut trainer = self.trainer(METHOD);
        self.run(&mut trainer, &format!("lora-{steps}"), (steps, steps));
        let folder = self.folder.path().join(format!("adapter-{steps}"));
        let mut adapter = trainer.adapter(false).unwrap();
        adapter.base_name = Some(self.model.display().to_string());
        adapter.write(&folder).unwrap();
        (trainer, folder)
    }
}

#[test]
fn an_adapter_learns_over_a_base_that_does_not_move() {
    let ground = ground();
    for base in
        [ground.base(), Arc::new(Base::load_small(&Weights::open(&ground.model).unwrap()).unwrap())]
    {
        let tensors = ground.config.tensors();
        let all =
            |base: &Base| -> Vec<Vec<f32>> { (0..tensors.len()).map(|i| base.tensor(i)).collect() };
        let before = all(&base);
        let method = Method::Lora { rank: 16, alpha: 32.0 };
        let mut trainer = ground.over(base.clone(), method);
        let start = values(&trainer);
        let name = format!("learns-{}", base.bytes());
        let losses = ground.run(&mut trainer, &name, (120, 120));
        let late = losses[110..].iter().sum::<f32>() / 10.0;
        assert!(late < losses[0] - 0.2, "{} to {late}", losses[0]);
        assert_eq!(before, all(&base));
        for ((name, before), (_, after)) in start.iter().zip(values(&trainer)) {
            assert_ne!(*before, after, "{name} did not move");
        }
        // Only the adapter is saved.
        let saved =
            std::fs::read(ground.folder.path().join(name).join("checkpoint/optimizer.safetensors"));
        let saved = ::safetensors::SafeTensors::deserialize(saved.as_ref().unwrap()).unwrap();
        assert!(saved.names().iter().all(|name| name.contains(".lora_")));
    }
}

/// Block types of every size, as a GGUF file has them: nothing of the base becomes floats as a whole.
#[test]
fn gradients_over_a_quantized_file_equal_those_of_the_graph() {
    let (_, tokenizer, _, small) = setup();
    let config = ModelConfig {
        hidden_size: 256,
        intermediate_size: 512,
        num_hidden_layers: 1,
        num_attention_heads: 4,
        head_dim: 64,
        ..small
    };
    let folder = tempdir().unwrap();
    let new = |config: &ModelConfig| {
        Trainer::new(config, TrainConfig::default(), json!({}), (1, false), Start::Random).unwrap()
    };
    let model = write_model(&folder.path().join("model"), &new(&config), &tokenizer, &config);
    let tokens: Vec<u32> = (0..96).map(|i| i * 91 % 256).collect();
    let targets: Vec<u32> = (0..96).map(|i| i * 57 % 256).collect();
    let factors = factors(&config);
    for (kind, most) in [(FileType::Q8_0, 9.0), (FileType::Q6K, 7.0), (FileType::Q4K, 5.5)] {
        let file = folder.path().join(kind.name());
        write_gguf(&Weights::open(&model).unwrap(), "test", kind, &file).unwrap();
        let weights = Weights::open(&file).unwrap();
        let base = Base::load(&weights).unwrap();
        let bits = 8.0 * base.bytes() as f64 / config.parameter_count() as f64;
        assert!(bits < most && base.bytes() == Base::bytes_of(&weights), "{bits}");
        let parameters = METHOD.parameters(Some(&base), &slices(&factors));
        let mut graph = Gradients::graph(&config, 48, Device::Cpu);
        let loss = graph.loss_and_gradients(&parameters, &tokens, &targets).unwrap();
        let mut ours = Backprop::new(&config, METHOD, 48, 2, false);
        close(&[ours.loss_and_gradients(&parameters, &tokens, &targets)], &[loss], 1e-5);
        for (ours, theirs) in ours.gradients().iter().zip(graph.gradients()) {
            let size = theirs.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
            assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-3 * size));
        }
    }
}

#[test]
fn a_resumed_adapter_ends_like_an_unbroken_one() {
    let ground = ground();
    let mut whole = ground.trainer(METHOD);
    ground.run(&mut whole, "whole", (12, 12));
    let mut part = ground.trainer(METHOD);
    ground.run(&mut part, "parts", (7, 12));
    let mut rest = ground.trainer(METHOD);
    ground.run(&mut rest, "parts", (12, 12));
    assert_eq!(values(&whole), values(&rest));

    // Over another base, or with another rank, it is another run.
    let other = ground.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let tensors = whole.merged(false, 1.0).unwrap();
    let tensors: Vec<_> = tensors.iter().map(|(n, s, v)| (n.clone(), s.clone(), &v[..])).collect();
    safetensors::write(&other.join("model.safetensors"), &tensors).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(ground.model.join(name), other.join(name)).unwrap();
    }
    let base = Arc::new(Base::load(&Weights::open(&other).unwrap()).unwrap());
    let wrong_base = ground.over(base, METHOD);
    let wrong_rank = ground.trainer(Method::Lora { rank: 4, alpha: 6.0 });
    for (mut wrong, words) in
        [(wrong_base, "base was"), (wrong_rank, "method.lora.rank was 3 and is 4")]
    {
        let at = ground.folder.path().join("parts/checkpoint");
        let data = (&ground.data, None);
        let result = wrong.run(
            &ground.tokenizer,
            data,
            (&at, 12),
            Vec::new(),
            &AtomicBool::new(false),
            &mut |_| {},
        );
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn full_training_from_a_base_can_go_back_to_it_in_part() {
    let ground = ground();
    let mut trainer = ground.trainer(Method::Full);
    let base = values(&trainer);
    ground.run(&mut trainer, "full-from-base", (5, 5));
    let tuned = values(&trainer);
    let [zero, half, one] = [0.0, 0.5, 1.0].map(|t| trainer.merged(false, t).unwrap());
    for (i, (name, _, values)) in half.iter().enumerate() {
        assert_eq!((&zero[i].2, &one[i].2), (&base[i].1, &tuned[i].1), "{name}");
        let middle: Vec<f32> =
            base[i].1.iter().zip(&tuned[i].1).map(|(a, b)| (a + b) / 2.0).collect();
        close(values, &middle, 1e-6);
    }
}

/// The logits of a model for one sequence, by the engine in f32.
fn logits(weights: &Weights, tokens: &[u32]) -> Vec<f32> {
    let engine = Engine::load(weights, Precision::Float, 256).unwrap();
    engine.forward(&mut engine.new_cache(), tokens, tokens.len()).unwrap()
}

#[test]
fn a_merged_model_gives_the_logits_of_base_and_adapter() {
    let ground = ground();
    let (trainer, folder) = ground.adapter(12);
    let tokens: Vec<u32> = (0..48).map(|i| 5 + i * 13 % 200).collect();
    let (base, tensors) = (ground.base(), trainer.weights(false));
    let trained: Vec<&[f32]> = tensors.iter().map(|(_, _, values)| *values).collect();
    let parameters = METHOD.parameters(Some(&base), &trained);
    let mut passes = Backprop::new(&ground.config, METHOD, 48, 1, false);
    let wanted = passes.logits(&parameters, &tokens);

    let merged = trainer.merged(false, 1.0).unwrap();
    let dense: Vec<&[f32]> = merged.iter().map(|(_, _, values)| &values[..]).collect();
    let mut passes = Backprop::new(&ground.config, Method::Full, 48, 1, false);
    close(&passes.logits(&Parameters::dense(&dense), &tokens), &wanted, 1e-4);

    // Through the files, at full strength, in part, and not at all.
    let open = || Weights::open(&ground.model).unwrap();
    let adapter = Adapter::read(&folder, &ground.config).unwrap();
    let adapted = open().with_adapter(adapter.clone(), 1.0).unwrap();
    close(&logits(&adapted, &tokens), &wanted, 1e-3);
    for (strength, part) in [(0.0, trainer.merged(false, 0.0)), (0.4, trainer.merged(false, 0.4))] {
        let weights = open().with_adapter(adapter.clone(), strength).unwrap();
        for (name, _, values) in part.unwrap() {
            close(&weights.vector(&name).unwrap(), &values, 1e-6);
        }
    }
    let gguf = ground.folder.path().join("merged.gguf");
    write_gguf(&adapted, "merged", FileType::F32, &gguf).unwrap();
    close(&logits(&Weights::open(&gguf).unwrap(), &tokens), &wanted, 1e-3);

    // The folder is a model: its base is where it says.
    let model = Model::load(&ModelSource::Path(folder), Precision::Float).unwrap();
    let ours = model.engine.forward(&mut model.engine.new_cache(), &tokens, 48).unwrap();
    close(&ours, &wanted, 1e-3);
}

#[test]
fn what_is_written_is_read() {
    let ground = ground();
    let (trainer, folder) = ground.adapter(3);
    let read = Adapter::read(&folder, &ground.config).unwrap();
    let mut own = trainer.adapter(false).unwrap();
    own.base_name = Some(ground.model.display().to_string());
    assert_eq!(read, own);
    let again = ground.folder.path().join("again");
    read.write(&again).unwrap();
    assert_eq!(Adapter::read(&again, &ground.config).unwrap(), own);
    let text = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(3), &json!(6)));
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 7);
}

/// An adapter as PEFT may save one: some modules, ranks and alphas of their own, half precision.
fn foreign(folder: &Path, change: impl FnOnce(&mut Value), tensors: &[(&str, [usize; 2])]) {
    std::fs::create_dir_all(folder).unwrap();
    let mut config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": null, "r": 4,
        "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], "bias": "none",
        "rank_pattern": {}, "alpha_pattern": {}, "use_rslora": false, "init_lora_weights": true,
        "some_key_of_tomorrow": null,
    });
    change(&mut config);
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let values: Vec<Vec<f32>> = tensors.iter().map(|(_, [a, b])| vec![0.5; a * b]).collect();
    let tensors: Vec<_> = tensors
        .iter()
        .zip(&values)
        .map(|((name, shape), v)| {
            (format!("base_model.model.{name}.weight"), shape.to_vec(), &v[..])
        })
        .collect();
    safetensors::write(&folder.join("adapter_model.safetensors"), &tensors).unwrap();
}

const Q: &str = "model.layers.0.self_attn.q_proj";

#[test]
fn some_modules_with_ranks_and_alphas_of_their_own_are_honoured() {
    let ground = ground();
    let folder = ground.folder.path().join("foreign");
    let down = "model.layers.1.mlp.down_proj";
    let names = [
        format!("{Q}.lora_A"),
        format!("{Q}.lora_B"),
        format!("{down}.lora_A"),
        format!("{down}.lora_B"),
    ];
    let shapes = [[4, 32], [32, 4], [2, 64], [32, 2]];
    let tensors: Vec<(&str, [usize; 2])> = names.iter().map(|n| &n[..]).zip(shapes).collect();
    for (root, q_scale, down_scale) in
        [(false, 8.0 / 4.0, 3.0 / 2.0), (true, 8.0 / 2.0, 3.0 / 2f32.sqrt())]
    {
        let change = |config: &mut Value| {
            config["rank_pattern"] = json!({ "down_proj": 2 });
            config["alpha_pattern"] = json!({ "layers.1.mlp.down_proj": 3 });
            config["use_rslora"] = root.into();
        };
        foreign(&folder, change, &tensors);
        let adapter = Adapter::read(&folder, &ground.config).unwrap();
        for (module, added) in [(Q, 4.0 * 0.25 * q_scale), (down, 2.0 * 0.25 * down_scale)] {
            let name = format!("{module}.weight");
            let mut values = vec![1.0; 32];
            values.resize(if module == Q { 32 * 32 } else { 32 * 64 }, 1.0);
            adapter.merge(&name, &mut values, 1.0);
            assert!(
                values.iter().all(|x| (x - 1.0 - added).abs() < 1e-5),
                "{module} {}",
                values[0]
            );
        }
        let mut untouched = vec![1.0; 32 * 32];
        adapter.merge("model.layers.1.self_attn.q_proj.weight", &mut untouched, 1.0);
        assert!(untouched.iter().all(|x| *x == 1.0));
    }
}

#[test]
fn what_is_no_plain_adapter_of_this_model_is_refused_by_name() {
    let ground = ground();
    let folder = ground.folder.path().join("foreign");
    let (a, b) = (format!("{Q}.lora_A"), format!("{Q}.lora_B"));
    let whole = [(&a[..], [4, 32]), (&b[..], [32, 4])];
    let refused = |change: &dyn Fn(&mut Value), tensors: &[(&str, [usize; 2])], words: &[&str]| {
        foreign(&folder, change, tensors);
        let error = Adapter::read(&folder, &ground.config).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
        assert!(error.contains(folder.to_str().unwrap()), "{error}");
    };
    let set =
        |key: &'static str, value: Value| move |config: &mut Value| config[key] = value.clone();
    let as_it_is = |_: &mut Value| {};
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("bias", json!("all")),
        ("modules_to_save", json!(["lm_head"])),
        ("init_lora_weights", json!("pissa")),
        ("rank_pattern", json!({ "layers\\.[01].*": 2 })),
        ("r", json!(0)),
        ("r", json!(2.5)),
        ("r", json!(1e300)),
        ("lora_alpha", json!("much")),
        ("lora_alpha", json!(1e300)),
    ] {
        refused(&set(key, value), &whole, &["adapter_config.json", key]);
    }
    let extra = [whole[0], whole[1], ("lm_head.lora_A", [4, 32])];
    refused(&as_it_is, &extra, &["lm_head.lora_A", "q_proj, k_proj"]);
    let vector =
        [whole[0], whole[1], ("model.layers.0.self_attn.q_proj.lora_magnitude_vector", [1, 32])];
    refused(&as_it_is, &vector, &["lora_magnitude_vector"]);
    let layer = [whole[0], whole[1], ("model.layers.7.self_attn.q_proj.lora_A", [4, 32])];
    refused(&as_it_is, &layer, &["layers.7", "2 layers"]);
    refused(&as_it_is, &[(&a, [4, 48]), (&b, [32, 4])], &["lora_A", "[4, 48]", "[4, 32]"]);
    refused(&as_it_is, &[(&a, [8, 32]), (&b, [32, 8])], &["lora_", "8", "[4, 32]"]);
    refused(&as_it_is, &whole[..1], &["only one of"]);
    refused(&as_it_is, &[], &["no tensor"]);

    // Broken files.
    foreign(&folder, as_it_is, &whole);
    let file = folder.join("adapter_model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    for broken in [&bytes[..bytes.len() - 7], &bytes[..20], &[0xff; 64], &[]] {
        std::fs::write(&file, broken).unwrap();
        let error = Adapter::read(&folder, &ground.config).unwrap_err().to_string();
        assert!(error.contains("adapter_model.safetensors"), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::write(folder.join("adapter_model.bin"), "pickle").unwrap();
    let error = Adapter::read(&folder, &ground.config).unwrap_err().to_string();
    assert!(error.contains("save it as safetensors"), "{error}");
}

#[test]
fn an_adapter_of_another_base_is_refused() {
    let ground = ground();
    let (trainer, folder) = ground.adapter(3);
    let adapter = Adapter::read(&folder, &ground.config).unwrap();
    let path = ground.model.join("model.safetensors");
    let tensors = trainer.merged(false, 1.0).unwrap();
    let tensors: Vec<_> = tensors.iter().map(|(n, s, v)| (n.clone(), s.clone(), &v[..])).collect();
    safetensors::write(&path, &tensors).unwrap();
    let load = || Model::load(&ModelSource::Path(folder.clone()), Precision::Float);
    let other = Weights::open(&ground.model).unwrap().with_adapter(adapter, 1.0).err().unwrap();
    for error in [other.to_string(), load().err().unwrap().to_string()] {
        assert!(error.contains("trained on other weights"), "{error}");
        assert!(error.contains(ground.model.to_str().unwrap()), "{error}");
    }
    std::fs::remove_dir_all(&ground.model).unwrap();
    let error = load().err().unwrap().to_string();
    assert!(
        error.contains("adapter-3") && error.contains(ground.model.to_str().unwrap()),
        "{error}"
    );
}

#[test]
fn an_adapter_needs_a_base_and_a_rank() {
    let ground = ground();
    let new = |method, start| {
        let config = ground.train_config(method);
        Trainer::new(&ground.config, config, json!({}), (1, false), start)
            .err()
            .unwrap()
            .to_string()
    };
    assert!(new(METHOD, Start::Random).contains("none is given"));
    for wrong in [Method::Lora { rank: 0, alpha: 1.0 }, Method::Lora { rank: 4, alpha: f32::NAN }] {
        assert!(new(wrong, Start::Base(ground.base())).contains("LoRA"));
    }
}

#[test]
fn an_adapter_takes_less_memory_than_all_weights() {
    let ground = ground();
    let weights = Weights::open(&ground.model).unwrap();
    let of =
        |method, base| Memory::of(&weights.config, &ground.train_config(method), (2, false), base);
    let (full, lora) = (of(Method::Full, 0), of(METHOD, Base::bytes_of(&weights)));
    let parameters = weights.config.parameter_count();
    assert_eq!(full.weights, 4 * parameters);
    assert_eq!((full.gradients, full.moments), (8 * parameters, 8 * parameters));
    assert_eq!(ground.base().bytes(), 4 * parameters);
    assert!(
        lora.total() < full.total() && lora.gradients * 3 < full.gradients,
        "{lora:?} {full:?}"
    );
}
