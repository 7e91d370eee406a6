//! The same tokens as Hugging Face Transformers on the same weights, and the two forwards of the network
//! beside each other. The references are made by tests/data/parity/make.py.

use std::path::{Path, PathBuf};

use nestling::model::backprop::Backprop;
use nestling::model::config::ModelConfig;
use nestling::model::engine::{Engine, Precision};
use nestling::model::lora::Method;
use nestling::model::ops::IGNORE;
use nestling::model::parameters::Parameters;
use nestling::model::quantize::{FileType, Plan, file_size, write_gguf, write_plan};
use nestling::model::safetensors;
use nestling::model::transformer::Transformer;
use nestling::model::weights::Weights;

/// Those that can be trained.
pub(crate) const FAMILIES: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Those that can only be used; all but the last also lie there as llama.cpp has them.
const OTHERS: [&str; 9] = [
    "deepseek-coder",
    "granite-code",
    "granite",
    "starcoder2",
    "gpt_bigcode",
    "gemma",
    "stablelm",
    "phi3",
    "santacoder",
];

fn all() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter().chain(OTHERS)
}

#[derive(serde::Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    prompt: Vec<u32>,
    last_logits: Vec<f32>,
    greedy: Vec<u32>,
}

pub(crate) fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parity").join(family)
}

fn reference(family: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(folder(family).join("reference.json")).unwrap();
    serde_json::from_str::<Reference>(&text).unwrap().cases
}

fn engine(family: &str) -> Engine {
    load(&folder(family), Precision::Float)
}

fn load(path: &Path, precision: Precision) -> Engine {
    Engine::load(&Weights::open(path).unwrap(), precision, 256).unwrap()
}

fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

#[track_caller]
pub(crate) fn close(ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "logit {i}: {a} and {b}");
    }
}

/// The logits after each prompt and the greedy tokens that follow are those of Transformers.
#[track_caller]
fn check_reference(engine: &Engine, family: &str) {
    for case in reference(family) {
        let mut cache = engine.new_cache();
        let mut logits = engine.forward(&mut cache, &case.prompt, 1).unwrap();
        close(&logits, &case.last_logits, 1e-3);
        assert_eq!(case.greedy.len(), 64);
        for expected in case.greedy {
            let token = argmax(&logits);
            assert_eq!(token, expected, "{family}");
            logits = engine.forward(&mut cache, &[token], 1).unwrap();
        }
    }
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    for family in all() {
        check_reference(&engine(family), family);
    }
}

#[test]
fn files_of_llama_cpp_are_the_same_models() {
    for family in &OTHERS[..8] {
        check_reference(&load(&folder(family).join("model.gguf"), Precision::Float), family);
    }
}

/// A folder of a family with the vocabulary that its GGUF file has.
fn with_vocabulary(family: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder(family)).unwrap().flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().ends_with(".gguf") {
            std::fs::copy(entry.path(), directory.path().join(name)).unwrap();
        }
    }
    let bytes = Weights::open(&folder("gemma").join("model.gguf")).unwrap().tokenizer().unwrap();
    std::fs::write(directory.path().join("tokenizer.json"), bytes.to_json().unwrap()).unwrap();
    directory
}

#[test]
fn what_is_written_as_gguf_is_the_same_model() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("written.gguf");
    for family in all() {
        let source = with_vocabulary(family);
        let mut sources = vec![source.path().to_path_buf()];
        sources.extend(Some(folder(family).join("model.gguf")).filter(|path| path.exists()));
        for source in sources {
            let weights = Weights::open(&source).unwrap();
            write_gguf(&weights, family, FileType::F32, &file).unwrap();
            let written = Weights::open(&file).unwrap();
            let shape = |weights: &Weights| ModelConfig {
                rope_theta: 0.0,
                rms_norm_eps: 0.0,
                ..weights.config.clone()
            };
            assert_eq!(shape(&written), shape(&weights), "{family}");
            check_reference(&load(&file, Precision::Float), family);
            let tokenizers = [&written, &weights].map(|weights| weights.tokenizer().unwrap());
            let text = "fn main() {\n\tlet größe = 12;\n}";
            assert_eq!(tokenizers[0].encode(text), tokenizers[1].encode(text), "{family}");
            // In blocks, the file is what is computed without it, to the bit, and as large as was said.
            let plan = Plan::uniform(&weights.config, FileType::Q8_0);
            write_plan(&weights, family, &plan, &file).unwrap();
            let size = std::fs::metadata(&file).unwrap().len();
            assert_eq!(file_size(&weights, family, &plan).unwrap(), size, "{family}");
            let planned = Engine::planned(&weights, &plan, 256).unwrap();
            let (read, prompt) = (load(&file, Precision::Quantized), [7, 200, 31, 5]);
            let [read, planned] = [&read, &planned]
                .map(|engine| engine.forward(&mut engine.new_cache(), &prompt, 4).unwrap());
            assert_eq!(read, planned, "{family}");
        }
    }
}

#[test]
fn what_gguf_has_no_words_for_is_refused() {
    for (family, key, value, words) in [
        ("qwen3", "attention_bias", serde_json::json!(true), "biases on its outputs"),
        ("qwen2", "residual_multiplier", serde_json::json!(0.5), "has multipliers"),
        ("gemma", "tie_word_embeddings", serde_json::json!(false), "output layer of its own"),
    ] {
        let source = with_vocabulary(family);
        let path = source.path().join("config.json");
        let mut json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        json[key] = value;
        std::fs::write(&path, json.to_string()).unwrap();
        // Tensors that the changed shape wants besides.
        let tensors: Vec<_> = ModelConfig::from_json(&json.to_string())
            .unwrap()
            .tensors()
            .into_iter()
            .map(|(name, shape)| (name, vec![0.0; shape.iter().product()], shape))
            .collect();
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, data, shape)| (name.clone(), shape.clone(), &data[..]))
            .collect();
        safetensors::write(&source.path().join("model.safetensors"), &tensors).unwrap();
        let weights = Weights::open(source.path()).unwrap();
        let out = source.path().join("out.gguf");
        let error = write_gguf(&weights, "x", FileType::F32, &out).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(family) && !out.exists(), "{error}");
    }
}

#[test]
fn layers_side_by_side_are_refused() {
    let mut bytes = std::fs::read(folder("stablelm").join("model.gguf")).unwrap();
    let name = b"blk.0.ffn_norm.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    bytes[at + 7] = b'_';
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let error = Weights::open(file.path()).err().unwrap().to_string();
    assert!(error.contains("stablelm") && error.contains("side by side"), "{error}");
}

/// Rounded to 8 bits, logits move a little and the network is the same one: a part that is left out moves
/// them by as much as they are.
#[test]
fn every_family_runs_in_blocks() {
    for family in all() {
        let engine = load(&folder(family), Precision::Quantized);
        for case in reference(family) {
            let logits = engine.forward(&mut engine.new_cache(), &case.prompt, 1).unwrap();
            let error = logits.iter().zip(&case.last_logits).map(|(a, b)| (a - b).powi(2));
            let size = case.last_logits.iter().map(|b| b.powi(2)).sum::<f32>();
            let share = (error.sum::<f32>() / size).sqrt();
            assert!(share < 0.2, "{family}: {share}");
        }
    }
}

#[test]
fn what_cannot_be_trained_is_refused_by_name() {
    for family in OTHERS {
        let weights = Weights::open(&folder(family)).unwrap();
        let source = &mut |_: &str, _: &[usize]| unreachable!("no tensor is asked for");
        let error = Transformer::new(&weights.config, source).err().unwrap().to_string();
        let name = weights.config.model_type.name();
        assert!(error.contains(name) && error.contains("plain llama, qwen2, qwen3"), "{error}");
    }
}

/// candle-transformers is the second opinion: the same equations, written by others.
#[test]
fn logits_are_those_of_candle_transformers() {
    use candle_core::{DType, Device, Tensor};
    use candle_nn::VarBuilder;
    use candle_transformers::models::{llama, qwen3};
    let folder = folder("qwen3");
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["rope_theta"] = json["rope_parameters"]["rope_theta"].clone();
    let theirs = |files: &[PathBuf]| {
        let tensors =
            files.iter().flat_map(|f| candle_core::safetensors::load(f, &Device::Cpu).unwrap());
        VarBuilder::from_tensors(tensors.collect(), DType::F32, &Device::Cpu)
    };
    let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let config: qwen3::Config = serde_json::from_value(json).unwrap();
    let vb = theirs(&[folder.join("model.safetensors")]);
    let mut model = qwen3::ModelForCausalLM::new(&config, vb).unwrap();
    for case in reference("qwen3") {
        let ids = Tensor::new(&*case.prompt, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        model.clear_kv_cache();
        let logits = flat(model.forward(&ids, 0).unwrap());
        let engine = engine("qwen3");
        let ours = engine.forward(&mut engine.new_cache(), &case.prompt, 1).unwrap();
        close(&ours, &logits, 1e-3);
    }
    let folder = self::folder("llama");
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let config: llama::LlamaConfig = serde_json::from_str(&text).unwrap();
    let config = config.into_config(false);
    let shard = |i: usize| folder.join(format!("model-0000{i}-of-00002.safetensors"));
    let model = llama::Llama::load(theirs(&[shard(1), shard(2)]), &config).unwrap();
    for case in reference("llama") {
        let mut cache = llama::Cache::new(false, DType::F32, &config, &Device::Cpu).unwrap();
        let ids = Tensor::new(&*case.prompt, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let logits = flat(model.forward(&ids, 0, &mut cache).unwrap());
        let engine = engine("llama");
        let ours = engine.forward(&mut engine.new_cache(), &case.prompt, 1).unwrap();
        close(&ours, &logits, 1e-3);
    }
}

#[test]
fn cached_decoding_equals_a_full_forward() {
    for family in all() {
        let engine = engine(family);
        let tokens: Vec<u32> = (0..60).map(|i| i * 37 % 256).collect();
        let all = engine.forward(&mut engine.new_cache(), &tokens, tokens.len()).unwrap();
        // One by one, a cut back, a chunk below and a chunk above the border to matrix products.
        let mut cache = engine.new_cache();
        for (i, token) in tokens[..20].iter().enumerate() {
            let logits = engine.forward(&mut cache, &[*token], 1).unwrap();
            close(&logits, &all[i * 256..(i + 1) * 256], 1e-3);
        }
        assert_eq!(cache.keep_common_prefix(&[&tokens[..11], &[9, 9]].concat()), 11);
        let logits = engine.forward(&mut cache, &tokens[11..16], 5).unwrap();
        close(&logits, &all[11 * 256..16 * 256], 1e-3);
        let logits = engine.forward(&mut cache, &tokens[16..], 44).unwrap();
        close(&logits, &all[16 * 256..], 1e-3);
    }
}

#[test]
fn the_differentiable_forward_equals_the_inference_forward() {
    for family in FAMILIES {
        let weights = Weights::open(&folder(family)).unwrap();
        let model = Transformer::new(&weights.config, &mut |name, _| {
            Ok(weights.dense(name).expect("the folder holds every tensor"))
        });
        let tokens: Vec<u32> = (0..64).map(|i| i * 91 % 256).collect();
        let ours = model.unwrap().logits(&tokens, 32).unwrap();
        let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let engine = engine(family);
        for (index, sequence) in tokens.chunks(32).enumerate() {
            let logits = engine.forward(&mut engine.new_cache(), sequence, 32).unwrap();
            close(&ours[index * 32 * 256..(index + 1) * 32 * 256], &logits, 1e-3);
        }
    }
}

#[test]
fn written_out_gradients_equal_those_of_the_graph() {
    use candle_core::{Tensor, Var};
    for family in FAMILIES {
        let weights = Weights::open(&folder(family)).unwrap();
        let config = &weights.config;
        let tensors: Vec<(String, Var)> = config
            .tensors()
            .into_iter()
            .map(|(name, _)| {
                let var = Var::from_tensor(&weights.dense(&name).unwrap()).unwrap();
                (name, var)
            })
            .collect();
        let model = Transformer::new(config, &mut |name, _| {
            Ok(tensors.iter().find(|(n, _)| n == name).unwrap().1.as_tensor().clone())
        });
        let tokens: Vec<u32> = (0..3 * 80).map(|i| i * 91 % 256).collect();
        let mut targets: Vec<u32> = (0..3 * 80).map(|i| i * 57 % 256).collect();
        targets[7..90].fill(IGNORE);
        let loss = model.unwrap().loss(&tokens, &targets, 80).unwrap();
        let graph = loss.backward().unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let values: Vec<Vec<f32>> = tensors.iter().map(|(_, var)| flat(var)).collect();
        let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let values = Parameters::dense(&values);
        for (workers, recompute) in [(1, false), (2, false), (2, true)] {
            let mut backprop = Backprop::new(config, Method::Full, 80, workers, recompute);
            for _again in 0..2 {
                let ours = backprop.loss_and_gradients(&values, &tokens, &targets);
                close(&[ours], &[loss.to_scalar::<f32>().unwrap()], 1e-5);
                for ((name, var), ours) in tensors.iter().zip(backprop.gradients()) {
                    let theirs = flat(graph.get(var).unwrap());
                    let size = theirs.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
                    for (a, b) in ours.iter().zip(&theirs) {
                        assert!((a - b).abs() < 1e-3 * size, "{family} {name}: {a} and {b}");
                    }
                }
            }
            let logits = backprop.logits(&values, &tokens);
            let engine = engine(family);
            for (index, sequence) in tokens.chunks(80).enumerate() {
                let theirs = engine.forward(&mut engine.new_cache(), sequence, 80).unwrap();
                close(&logits[index * 80 * 256..(index + 1) * 80 * 256], &theirs, 1e-3);
            }
            let nats = backprop.nats(&values, &tokens, &targets) / (240.0 - 83.0);
            close(&[nats as f32], &[loss.to_scalar::<f32>().unwrap()], 1e-5);
        }
    }
}

#[test]
fn positions_and_tokens_out_of_range_are_errors() {
    let engine = engine("qwen3");
    let mut cache = engine.new_cache();
    assert!(engine.forward(&mut cache, &[256], 1).unwrap_err().to_string().contains("256"));
    assert!(engine.forward(&mut cache, &[1; 257], 1).unwrap_err().to_string().contains("context"));
    assert!(engine.forward(&mut cache, &[1; 256], 1).is_ok());
    assert!(engine.forward(&mut cache, &[1], 1).is_err());
}
