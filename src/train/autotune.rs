//! Which model a corpus and a time budget are worth: a ladder of shapes, a measured throughput and a
//! compute-optimal rule.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::model::backprop::Backprop;
use crate::model::config::{Details, ModelConfig};
use crate::model::family::Family;
use crate::model::lora::Method;
use crate::model::parameters::Parameters;

/// One shape of the ladder, with what goes well with it.
#[derive(Clone, Copy, Debug)]
pub struct Rung {
    /// Its name on the command line.
    pub name: &'static str,
    /// Vocabulary, hidden, intermediate, layers, heads, key/value heads, head size.
    shape: [usize; 7],
    /// Tokens in one sequence.
    pub sequence: usize,
    /// Sequences in one step.
    pub batch: usize,
    /// Peak learning rate, before a range test.
    pub learning_rate: f64,
}

#[rustfmt::skip]
/// From the test model up. The vocabulary grows with the 0.83rd power of the parameters (Tao et al. 2024);
/// from nano on, widths are multiples of 256, which the fast quantized kernels want.
pub const LADDER: [Rung; 7] = [
    Rung { name: "tiny", shape: [1024,   96,  256,  2,  3,  1, 32], sequence: 512, batch: 4, learning_rate: 8e-3 },
    Rung { name: "micro", shape: [2048,  128,  384,  3,  2,  1, 64], sequence: 512, batch: 8, learning_rate: 6e-3 },
    Rung { name: "nano", shape: [4096,  256,  768,  4,  4,  2, 64], sequence: 1024, batch: 4, learning_rate: 3e-3 },
    Rung { name: "mini", shape: [8192,  256,  768,  8,  4,  2, 64], sequence: 1024, batch: 8, learning_rate: 3e-3 },
    Rung { name: "small", shape: [8192,  512, 1536,  4,  8,  4, 64], sequence: 1024, batch: 8, learning_rate: 2e-3 },
    Rung { name: "medium", shape: [8192,  512, 1536,  8,  8,  4, 64], sequence: 1024, batch: 16, learning_rate: 2e-3 },
    Rung { name: "base", shape: [8192,  512, 1536, 16,  8,  4, 64], sequence: 1024, batch: 32, learning_rate: 2e-3 },
];

impl Rung {
    /// The rung of that name.
    pub fn by_name(name: &str) -> Option<&'static Rung> {
        LADDER.iter().find(|rung| rung.name == name)
    }

    /// Its model.
    pub fn model(&self) -> ModelConfig {
        let [vocab, hidden, intermediate, layers, heads, kv_heads, head_dim] = self.shape;
        ModelConfig {
            model_type: Family::Qwen3,
            vocab_size: vocab,
            hidden_size: hidden,
            intermediate_size: intermediate,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            max_position_embeddings: self.sequence,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: true,
            details: Details::default(),
        }
    }
}

/// Floating-point operations of one trained token: six for each parameter, seven for each position
/// seen by each query feature.
pub fn flops_per_token(model: &ModelConfig) -> f64 {
    let attention = model.num_hidden_layers * model.max_position_embeddings * model.query_size();
    6.0 * model.parameter_count() as f64 + 7.0 * attention as f64
}

/// Measured operations per second of a training step of a small shape on all cores.
pub fn probe(cores: usize) -> f64 {
    let model = LADDER[2].model();
    let weights: Vec<Vec<f32>> =
        model.tensors().iter().map(|(_, shape)| vec![0.01; shape.iter().product()]).collect();
    let weights: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
    let mut backprop =
        Backprop::new(&model, Method::Full, model.max_position_embeddings, cores, false);
    let count = cores * model.max_position_embeddings;
    let tokens: Vec<u32> = (0..count as u32).map(|i| i % model.vocab_size as u32).collect();
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        backprop.loss_and_gradients(&Parameters::dense(&weights), &tokens, &tokens);
        best = best.min(start.elapsed().as_secs_f64());
    }
    flops_per_token(&model) * count as f64 / best
}

/// What one rung would come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub size: String,
    /// Its parameters.
    pub parameters: usize,
    /// Tokens that the budget pays for.
    pub tokens: f64,
    /// The same as fresh tokens: repeated ones teach less.
    pub effective_tokens: f64,
    /// The loss that the rule predicts, for comparison only.
    pub predicted: f64,
}

/// Judges every rung by the loss of N parameters after D tokens, 1.69 + 406/N^0.34 + 411/D^0.28
/// (Hoffmann et al. 2022), where both count less when there is too much of them for the U tokens of the
/// corpus (Muennighoff et al. 2023): a quantity x of which u is of full use counts as
/// u + u·r·(1 − e^(−(x/u − 1)/r)), with r = 15 for tokens and 5.3 for parameters. `budget` in seconds,
/// `speed` in operations per second.
pub fn candidates(budget: f64, speed: f64, unique_tokens: f64) -> Vec<Candidate> {
    let useful = |x: f64, u: f64, r: f64| match x > u {
        true => u + u * r * (1.0 - (-(x / u - 1.0) / r).exp()),
        false => x,
    };
    LADDER
        .iter()
        .map(|rung| {
            let model = rung.model();
            let parameters = model.parameter_count();
            let tokens = budget * speed / flops_per_token(&model);
            let effective_tokens = useful(tokens, unique_tokens.max(1.0), 15.0);
            // Twenty tokens to a parameter are compute-optimal.
            let n = useful(parameters as f64, (unique_tokens / 20.0).max(1.0), 5.3);
            let predicted =
                1.69 + 406.4 / n.powf(0.34) + 410.7 / effective_tokens.max(1.0).powf(0.28);
            Candidate { size: rung.name.into(), parameters, tokens, effective_tokens, predicted }
        })
        .collect()
}

/// The smallest candidate within 1 % of the lowest predicted loss, among those that get at least 100
/// steps.
pub fn choose(candidates: &[Candidate]) -> Option<&'static Rung> {
    let possible = || {
        LADDER.iter().zip(candidates).filter(|(rung, candidate)| {
            candidate.tokens >= (100 * rung.batch * rung.sequence) as f64
        })
    };
    let least = possible().map(|(_, c)| c.predicted).fold(f64::INFINITY, f64::min);
    possible().find(|(_, c)| c.predicted <= 1.01 * least).map(|(rung, _)| rung)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_time_and_text_are_worth_a_larger_model() {
        let size = |budget, tokens| choose(&candidates(budget, 1.5e11, tokens)).map(|r| r.name);
        let (minutes, hour, month) = (size(300.0, 1e7), size(3600.0, 1e8), size(2.6e6, 1e9));
        let place = |name: Option<&str>| LADDER.iter().position(|r| Some(r.name) == name).unwrap();
        assert!(
            place(minutes) < place(hour) && place(hour) < place(month),
            "{minutes:?} {hour:?} {month:?}"
        );
        // The same time over a tiny corpus: what is repeated does not pay for size.
        assert!(place(size(2.6e6, 1e5)) < place(month));
        assert_eq!(size(0.1, 1e7), None);
    }

    #[test]
    fn fast_kernels_fit_from_nano_on() {
        for rung in &LADDER[2..] {
            let model = rung.model();
            for (name, shape) in model.tensors() {
                if let [outputs, inputs] = shape[..] {
                    assert!(inputs % 256 == 0 && outputs % 16 == 0, "{} {name}", rung.name);
                }
            }
            assert!(model.validated().is_ok());
        }
    }
}
