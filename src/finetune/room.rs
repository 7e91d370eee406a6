//! What a fine-tune needs of memory, and for which methods there is room; asked before anything large is loaded.

use anyhow::{Result, bail};

use super::Watch;
use super::search::{BATCH, METHODS, name_of};
use crate::model::config::ModelConfig;
use crate::model::estimate;
use crate::model::lora::{Base, Method};
use crate::model::weights::Weights;
use crate::train::footprint::Memory;
use crate::train::optimizer::OptimizerConfig;
use crate::train::trainer::TrainConfig;

/// Tokens of a sequence at most.
const SEQUENCE: usize = 1024;
/// Bytes of a weight in blocks of 8 bits, and of one that is judged: as a float, and as the engine has it.
const IN_BLOCKS: f64 = 34.0 / 32.0;
const JUDGED: f64 = 4.0 + IN_BLOCKS;

/// A model's shape with the sequences of training.
pub(super) fn shape_of(model: &ModelConfig) -> ModelConfig {
    let sequence = model.max_position_embeddings.min(SEQUENCE);
    ModelConfig { max_position_embeddings: sequence, ..model.clone() }
}

/// How a candidate is trained.
pub(super) fn config_of(method: Method, rate: f64, decay: f64) -> TrainConfig {
    let optimizer = OptimizerConfig {
        learning_rate: rate,
        weight_decay: 0.01,
        average: 20,
        ..OptimizerConfig::default()
    };
    let (batch, warmup, save_seconds) = (BATCH, 8, 20);
    let evaluate_every = u64::MAX;
    TrainConfig {
        method,
        batch,
        warmup,
        decay,
        evaluate_every,
        save_seconds,
        optimizer,
        ..TrainConfig::default()
    }
}

pub(super) fn workers() -> usize {
    rayon::current_num_threads().min(BATCH)
}

/// Bytes that can be had without swapping, less a reserve for the editor and its servers.
pub(super) fn free_memory() -> usize {
    estimate::free_memory().map_or(usize::MAX, |free| free as usize) / 10 * 8
}

/// Whether layers must be computed twice to train by this method in so many free bytes, of which the frozen weights take
/// `base`; `None` if even that does not help. With what it takes.
pub(super) fn fits(
    model: &ModelConfig,
    base: usize,
    method: Method,
    free: usize,
) -> (Option<bool>, usize) {
    let (shape, config) = (shape_of(model), config_of(method, 1e-3, 0.0));
    // What was learnt becomes a model of its own to be judged, beside the untouched one.
    let judged = model.parameter_count() as f64 * (JUDGED + IN_BLOCKS);
    let need = |recompute| {
        Memory::of(&shape, &config, (workers(), recompute), base).total() + judged as usize
    };
    let found = [false, true].into_iter().find(|&recompute| need(recompute) <= free);
    (found, need(found.unwrap_or(true)))
}

/// The methods that so many free bytes have room for, and whether the frozen weights must be small for it.
///
/// # Errors
/// There is no room for any; the text says what would fit.
pub(super) fn affordable(
    weights: &Weights,
    free: usize,
    watch: &mut Watch<'_>,
) -> Result<(Vec<Method>, bool)> {
    let model = &weights.config;
    let small = (model.parameter_count() as f64 * IN_BLOCKS) as usize;
    let mut least = usize::MAX;
    for (is_small, base) in [(false, Base::bytes_of(weights)), (true, small)] {
        if is_small && base >= Base::bytes_of(weights) {
            continue;
        }
        let mut methods = Vec::new();
        let kept = if is_small { ", its base in 8 bits" } else { "" };
        for method in METHODS.into_iter().filter(|method| !(is_small && method.is_full())) {
            let (fits, need) = fits(model, base, method, free);
            least = least.min(need);
            let (name, megabytes) = (name_of(method), need / 1_000_000);
            match fits {
                Some(recompute) => {
                    methods.push(method);
                    let twice = if recompute { ", layers computed twice" } else { "" };
                    watch.note(format!("{name}: {megabytes} MB{twice}{kept}"));
                }
                None => watch.note(format!(
                    "{name}{kept} is left out: it needs {megabytes} MB and {} MB are free",
                    free / 1_000_000
                )),
            }
        }
        if !methods.is_empty() {
            return Ok((methods, is_small));
        }
    }
    bail!(
        "this model needs {} MB to be fine-tuned and {} MB are free: close something, or fine-tune a smaller model \
         or one in a smaller type (nestling quantize MODEL --type q4_k)",
        least / 1_000_000,
        free / 1_000_000
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::generation::ModelSource;

    #[test]
    fn what_has_no_room_is_left_out_and_a_small_base_comes_before_a_refusal() {
        let tiny = ModelSource::Path(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny"));
        let weights = tiny.weights().unwrap();
        let model = &weights.config;
        let (stop, mut say) = (AtomicBool::new(false), |_| {});
        let mut watch = Watch { stop: &stop, say: &mut say, busy: &|| None, waited: 0.0 };
        let mut found = |free: usize| affordable(&weights, free, &mut watch);
        let need = |base: usize, method: Method| fits(model, base, method, 0).1;
        let dense = Base::bytes_of(&weights);
        assert_eq!(found(usize::MAX).unwrap(), (METHODS.to_vec(), false));
        let [small_adapter, large_adapter, full] = METHODS;
        assert!(need(dense, small_adapter) < need(dense, large_adapter));
        assert!(need(dense, large_adapter) < need(dense, full), "what is frozen costs no gradient");
        let (methods, is_small) = found(need(dense, full) - 1).unwrap();
        assert_eq!((methods, is_small), (vec![small_adapter, large_adapter], false));
        let (methods, is_small) = found(need(dense, small_adapter) - 1).unwrap();
        assert!(is_small && methods.contains(&small_adapter), "{methods:?}");
        let refused = found(1_000_000).unwrap_err().to_string();
        assert!(refused.contains("1 MB are free") && refused.contains("--type q4_k"), "{refused}");
    }
}
