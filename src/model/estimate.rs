//! What a model will need before it is loaded: memory, and time for a token, from its shape and one short
//! measurement.

use std::time::{Duration, Instant};

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};

use super::config::ModelConfig;
use super::groups::Group;
use super::matrix::{Activations, Matrix};
use super::weights::Weights;

/// KV caches that one program keeps.
const CACHES: usize = 3;
/// Everything of the program that is no weight.
const PROGRAM: u64 = 64 << 20;
/// What a layer takes beside its weights, however few those are. With it the estimates lie within a third of what
/// was measured for 4 million weights in 4 layers (1.2 ms a token) and for 54 million (6.8 ms).
const LAYER: Duration = Duration::from_micros(100);
/// What a model can be had as, and the type of most of its weights then.
const FORMS: [(&str, &str); 2] = [("Q4_K_M", "q4_k"), ("Q8_0", "q8_0")];

/// The type of what is not quantized at all.
pub const FLOAT: &str = "float";

/// Bits that the engine holds for each weight of a type, the copy that is packed for candle's kernels among them.
fn bits(stored: &str) -> u64 {
    match stored {
        "q2_k" => 3,
        "q3_k" => 4,
        "q4_k" => 11,
        // Packed on these machines as well.
        "q4_0" if cfg!(target_arch = "aarch64") => 9,
        "q5_k" if cfg!(target_arch = "aarch64") => 11,
        "q4_0" | "q4_1" => 5,
        "q5_0" | "q5_1" | "q5_k" => 6,
        "q6_k" => 17,
        FLOAT => 32,
        // Wider types become Q8_0.
        _ if Matrix::has_own_kernels() => 9,
        _ => 17,
    }
}

/// Bytes of memory that a model takes with contexts of that many tokens, an upper estimate. `held` says the type that
/// the engine has a tensor in.
pub fn memory<'a>(config: &ModelConfig, context: usize, held: impl Fn(&str) -> &'a str) -> u64 {
    let context = context.min(config.max_position_embeddings) as u64;
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let elements = shape.iter().product::<usize>() as u64;
        match Group::of(&name) {
            Some(_) if shape.last().is_some_and(|row| row % GgmlDType::Q8_0.block_size() == 0) => {
                elements * bits(held(&name)) / 8
            }
            // What is no matrix of whole blocks.
            _ => elements * 4,
        }
    };
    let kept: u64 = config.tensors().into_iter().map(tensor).sum();
    let per_token = 8 * (config.num_hidden_layers * config.kv_size()) as u64;
    kept + CACHES as u64 * context * per_token + PROGRAM
}

/// Bytes of memory that are free for this program; `None` where the system does not say.
pub fn free_memory() -> Option<u64> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let table = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    // A container may have less; its page cache gives way.
    let group = |name: &str| number(&format!("/sys/fs/cgroup/memory.{name}"));
    let left = match (group("max"), group("current")) {
        (Some(most), Some(used)) => most.saturating_sub(used) + cached().unwrap_or(0),
        _ => u64::MAX,
    };
    Some(free.min(left))
}

/// Bytes of files that this container keeps in memory and can drop.
fn cached() -> Option<u64> {
    let table = std::fs::read_to_string("/sys/fs/cgroup/memory.stat").ok()?;
    table.lines().find_map(|line| line.strip_prefix("inactive_file "))?.trim().parse().ok()
}

/// That a model fits into the memory that is free; see [`memory`].
///
/// # Errors
/// It does not; the text says what it needs, what there is, and what would fit.
pub fn check<'a>(
    config: &ModelConfig,
    context: usize,
    stored: impl Fn(&str) -> &'a str,
) -> Result<(), String> {
    let (needed, Some(free)) = (memory(config, context, stored), free_memory()) else {
        return Ok(());
    };
    if needed <= free {
        return Ok(());
    }
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let parameters = config.parameter_count() as u64;
    // Q8_0 takes less where there is one copy of it.
    let forms = FORMS.map(|(name, kind)| (bits(kind), name));
    let (bits, form) = forms.into_iter().min().unwrap_or(forms[0]);
    let small = parameters * bits / 8 + PROGRAM;
    let way = match small <= free && small < needed {
        true => format!("get it as {form}, which needs about {}", gigabytes(small)),
        false => format!(
            "as {form}, models of up to about {:.1} billion parameters fit, this one has {:.1}",
            free.saturating_sub(PROGRAM) as f64 * 8.0 / bits as f64 / 1e9,
            parameters as f64 / 1e9
        ),
    };
    Err(format!(
        "needs about {} of memory and {} are free; close other programs, or {way}",
        gigabytes(needed),
        gigabytes(free)
    ))
}

/// Weights that pass through the kernels in a second while one token is computed, measured on a matrix that
/// no cache of the processor holds, in the type that most of the model's weights come in.
pub fn weights_per_second(weights: &Weights) -> Option<f64> {
    const INPUTS: usize = 4096;
    const OUTPUTS: usize = 32_768;
    let kind = match weights.stored_type("model.layers.0.mlp.down_proj.weight") {
        "q2_k" | "q3_k" | "q4_k" | "q4_0" | "q4_1" => GgmlDType::Q4K,
        "q5_0" | "q5_1" | "q5_k" | "q6_k" => GgmlDType::Q6K,
        _ => GgmlDType::Q8_0,
    };
    let bytes = vec![0; OUTPUTS * INPUTS / kind.block_size() * kind.type_size()];
    let storage = QStorage::from_data(bytes.into(), &Device::Cpu, kind).ok()?;
    let matrix = QTensor::new(storage, (OUTPUTS, INPUTS)).ok()?;
    let matrix = Matrix::of(matrix);
    let x = Activations::new(vec![1.0; INPUTS], INPUTS).ok()?;
    let time = || {
        let start = Instant::now();
        matrix.forward(&x).ok()?;
        Some(start.elapsed())
    };
    // The first packs the matrix where candle's kernels do the work.
    time()?;
    let least = (0..4).filter_map(|_| time()).min()?;
    Some((OUTPUTS * INPUTS) as f64 / least.as_secs_f64())
}

/// About how long one token takes at that speed.
pub fn token_time(config: &ModelConfig, per_second: f64) -> Duration {
    // The embedding table is only looked up in, unless it is the output layer, too.
    let looked_up = match config.tie_word_embeddings {
        true => 0,
        false => config.vocab_size * config.hidden_size,
    };
    let passed = config.parameter_count().saturating_sub(looked_up);
    Duration::from_secs_f64(passed as f64 / per_second) + LAYER * config.num_hidden_layers as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_what_is_kept() {
        let json = include_str!("../../models/tiny/config.json");
        let config = ModelConfig::from_json(json).unwrap();
        let of = |context, kind: &'static str| memory(&config, context, |_| kind) - PROGRAM;
        let weights = of(0, "q8_0");
        let per_weight = weights as f64 / config.parameter_count() as f64;
        let copies = if Matrix::has_own_kernels() { 1.0 } else { 2.0 };
        assert!((copies..copies + 0.3).contains(&per_weight), "a byte each: {per_weight}");
        assert!(of(0, "q2_k") < weights && of(0, "f16") == weights);
        let caches = of(100, "q8_0") - weights;
        assert_eq!(caches, 3 * 100 * 8 * 2 * 32);
        // No cache is larger than the positions of the model.
        assert_eq!(of(1 << 20, "q8_0"), of(512, "q8_0"));
        let huge = ModelConfig { vocab_size: 1 << 40, ..config };
        let error = check(&huge, 512, |_| "q8_0");
        assert!(free_memory().is_none() || error.is_err_and(|e| e.contains("billion")));
    }

    #[test]
    fn a_token_takes_as_long_as_its_weights() {
        let json = include_str!("../../models/tiny/config.json");
        let config = ModelConfig::from_json(json).unwrap();
        let time = token_time(&config, config.parameter_count() as f64);
        assert_eq!(time, Duration::from_secs(1) + 2 * LAYER);
        let untied = ModelConfig { tie_word_embeddings: false, ..config.clone() };
        assert_eq!(token_time(&untied, config.parameter_count() as f64), time);
    }
}
