//! What a run needs of main memory, before anything of it is allocated.

use serde::{Deserialize, Serialize};

use crate::model::backprop::Backprop;
use crate::model::config::ModelConfig;

use super::trainer::TrainConfig;

/// Bytes by what they are for; each is at its peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Frozen weights and trained ones.
    pub weights: usize,
    /// Gradients of what is trained, on each core.
    pub gradients: usize,
    /// Moments of the optimizer, and the running average.
    pub moments: usize,
    /// What the passes keep and pass on, on each core, and a matrix at a time of a quantized base.
    pub activations: usize,
    /// The copy of everything trained that a learning-rate range test goes back to.
    pub copy: usize,
}

impl Memory {
    /// Of a run on that many cores. `base` is what the frozen weights take
    /// ([`Base::bytes_of`](crate::model::lora::Base::bytes_of)), 0 without any.
    pub fn of(
        model: &ModelConfig,
        config: &TrainConfig,
        (workers, recompute): (usize, bool),
        base: usize,
    ) -> Memory {
        let size = |(_, shape): &(String, Vec<usize>)| 4 * shape.iter().product::<usize>();
        let (method, optimizer) = (config.method, &config.optimizer);
        let trained = method.tensors(model);
        let values: usize = trained.iter().map(size).sum();
        let states = |tensor: &(String, Vec<usize>)| {
            let moments = 2 - optimizer.is_muon(&tensor.0, &tensor.1) as usize;
            size(tensor) * (moments + (optimizer.average > 0) as usize)
        };
        let moments = trained.iter().map(states).sum();
        let sequence = model.max_position_embeddings;
        let passes = Backprop::activation_bytes(model, method, sequence, recompute);
        let matrices = model.tensors().into_iter().filter(|(name, _)| name.contains(".layers."));
        let largest = matrices.map(|tensor| size(&tensor)).max().unwrap_or(0);
        let one_matrix = if method.is_full() { 0 } else { largest };
        Memory {
            weights: base + values,
            gradients: workers * values,
            moments,
            activations: workers * (passes + one_matrix),
            copy: values + moments,
        }
    }

    /// All of it.
    pub fn total(&self) -> usize {
        self.weights + self.gradients + self.moments + self.activations + self.copy
    }
}
