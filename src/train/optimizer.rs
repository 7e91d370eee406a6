//! The optimizer: Muon for the matrices of the layers, AdamW for embeddings, norms and biases, and a
//! running average of the weights.
//!
//! Muon (Jordan et al. 2024) orthogonalizes the momentum of a matrix by a Newton–Schulz iteration.
//! Its update is scaled to the root-mean-square of an AdamW update (Liu et al. 2025), so one learning
//! rate serves both. All state is visible and can be saved. Plain loops over slices, one parameter per
//! core at a time: nothing waits and little is allocated.

use rayon::prelude::*;

use crate::model::ops::linear;

/// What can be tuned.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of all matrices, per step and unit of learning rate.
    pub weight_decay: f64,
    /// Largest norm of all gradients together.
    pub clip: f64,
    /// Use Muon for the matrices of the layers; AdamW for everything otherwise, and for the factors of
    /// adapters always: each is a part of a matrix, and its directions have no scale of their own.
    pub muon: bool,
    /// How slowly AdamW forgets its first and second moments.
    #[serde(skip_serializing_if = "is_usual")]
    pub betas: (f32, f32),
    /// Steps over which weights are averaged; 0 keeps no average.
    pub average: u64,
}

impl Default for OptimizerConfig {
    fn default() -> OptimizerConfig {
        OptimizerConfig {
            learning_rate: 3e-3,
            weight_decay: 0.1,
            clip: 1.0,
            muon: true,
            betas: USUAL_BETAS,
            average: 100,
        }
    }
}

impl OptimizerConfig {
    /// AdamW as PyTorch has it by default, for everything, without an average: what others compare with.
    pub fn adamw(learning_rate: f64, weight_decay: f64) -> OptimizerConfig {
        let (muon, betas, average) = (false, (0.9, 0.999), 0);
        OptimizerConfig { learning_rate, weight_decay, muon, betas, average, ..Default::default() }
    }

    /// Whether a tensor has one moment, its momentum, and not two.
    pub(super) fn is_muon(&self, name: &str, shape: &[usize]) -> bool {
        let hidden = shape.len() == 2 && name.contains(".layers.") && !name.contains(".lora_");
        self.muon && hidden
    }
}

const USUAL_BETAS: (f32, f32) = (0.9, 0.95);

/// Runs that began before these could be chosen do not tell them.
fn is_usual(betas: &(f32, f32)) -> bool {
    *betas == USUAL_BETAS
}

const MOMENTUM: f32 = 0.95;
const EPSILON: f32 = 1e-8;

/// A trainable tensor with its moments.
#[derive(Clone)]
pub struct Parameter {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its value.
    pub value: Vec<f32>,
    /// First moment or momentum, same shape.
    pub first: Vec<f32>,
    /// Second moment (AdamW only; empty for Muon).
    pub second: Vec<f32>,
    /// Running average of the value (empty without one).
    pub average: Vec<f32>,
}

impl Parameter {
    fn is_matrix(&self) -> bool {
        self.shape.len() == 2
    }
}

/// All parameters in checkpoint order, and the number of steps taken.
#[derive(Clone)]
pub struct Optimizer {
    /// In the order of [`crate::model::lora::Method::tensors`].
    pub parameters: Vec<Parameter>,
    /// Steps taken.
    pub step: u64,
    /// Factor of the peak learning rate, lowered after a step that had to be taken back.
    pub damping: f64,
    config: OptimizerConfig,
}

impl Optimizer {
    /// Fresh moments for the parameters (name, shape, value).
    pub fn new(values: Vec<(String, Vec<usize>, Vec<f32>)>, config: OptimizerConfig) -> Optimizer {
        let parameters = values.into_iter().map(|(name, shape, value)| {
            let zeros = || vec![0.0; value.len()];
            Parameter {
                first: zeros(),
                second: if config.is_muon(&name, &shape) { Vec::new() } else { zeros() },
                average: if config.average > 0 { value.clone() } else { Vec::new() },
                name,
                shape,
                value,
            }
        });
        Optimizer { parameters: parameters.collect(), step: 0, damping: 1.0, config }
    }

    /// The values of all parameters, in order.
    pub fn weights(&self) -> Vec<&[f32]> {
        self.parameters.iter().map(|p| &p.value[..]).collect()
    }

    /// The averages of all parameters, in order; the values themselves without an average.
    pub fn averages(&self) -> Vec<&[f32]> {
        let of = |p: &'_ Parameter| -> bool { p.average.is_empty() };
        self.parameters.iter().map(|p| if of(p) { &p.value[..] } else { &p.average[..] }).collect()
    }

    /// Changes the peak learning rate.
    pub fn set_learning_rate(&mut self, rate: f64) {
        self.config.learning_rate = rate;
    }

    /// One update with the gradients, in order, and `scale` · the peak learning rate. Returns the norm of
    /// all gradients before clipping; if it is not finite nothing was changed.
    pub fn step(&mut self, gradients: &[Vec<f32>], scale: f64) -> f64 {
        let squares = |g: &Vec<f32>| -> f64 {
            g.chunks(4096).map(|c| c.iter().map(|x| x * x).sum::<f32>() as f64).sum()
        };
        // Collected before it is added: the sum must not depend on how the work was shared out.
        let parts: Vec<f64> = gradients.par_iter().map(squares).collect();
        let norm = parts.iter().sum::<f64>().sqrt();
        if !norm.is_finite() {
            return norm;
        }
        self.step += 1;
        let clip = (self.config.clip / norm).min(1.0) as f32;
        let rate = (self.config.learning_rate * self.damping * scale) as f32;
        let decay = rate * self.config.weight_decay as f32;
        let (step, betas) = (self.step, self.config.betas);
        // The average covers what has been seen, at most the horizon.
        let fresh = 1.0 / step.min(self.config.average.max(1)) as f32;
        self.parameters.par_iter_mut().zip(gradients).with_max_len(1).for_each(|(p, gradient)| {
            let decay = if p.is_matrix() { decay } else { 0.0 };
            if p.second.is_empty() {
                muon(p, gradient, clip, rate, decay);
            } else {
                adam(p, gradient, clip, (rate, decay), betas, step);
            }
            for (average, value) in p.average.iter_mut().zip(&p.value) {
                *average += (value - *average) * fresh;
            }
        });
        norm
    }
}

fn adam(
    p: &mut Parameter,
    gradient: &[f32],
    clip: f32,
    (rate, decay): (f32, f32),
    (beta1, beta2): (f32, f32),
    step: u64,
) {
    let correction = |beta: f32| 1.0 / (1.0 - beta.powi(step.min(100_000) as i32));
    let (first, second) = (correction(beta1), correction(beta2));
    let moments = p.first.iter_mut().zip(p.second.iter_mut());
    for ((value, (m, v)), &g) in p.value.iter_mut().zip(moments).zip(gradient) {
        let g = g * clip;
        *m = *m * beta1 + g * (1.0 - beta1);
        *v = *v * beta2 + g * g * (1.0 - beta2);
        let update = *m * first / ((*v * second).sqrt() + EPSILON);
        *value = *value * (1.0 - decay) - update * rate;
    }
}

fn muon(p: &mut Parameter, gradient: &[f32], clip: f32, rate: f32, decay: f32) {
    let mut nesterov = vec![0.0; gradient.len()];
    for ((m, n), &g) in p.first.iter_mut().zip(&mut nesterov).zip(gradient) {
        let g = g * clip;
        *m = *m * MOMENTUM + g;
        *n = *m * MOMENTUM + g;
    }
    let (rows, columns) = (p.shape[0], p.shape[1]);
    let update = orthogonalize(nesterov, rows, columns);
    let scale = rate * 0.2 * (rows.max(columns) as f32).sqrt();
    for (value, update) in p.value.iter_mut().zip(update) {
        *value = *value * (1.0 - decay) - update * scale;
    }
}

/// The nearest semi-orthogonal matrix, roughly: five quintic Newton–Schulz steps.
fn orthogonalize(matrix: Vec<f32>, rows: usize, columns: usize) -> Vec<f32> {
    let tall = rows > columns;
    let (mut x, m, n) = match tall {
        true => (transposed(&matrix, rows, columns), columns, rows),
        false => (matrix, rows, columns),
    };
    let norm = x.iter().map(|&v| v as f64 * v as f64).sum::<f64>().sqrt() as f32 + 1e-7;
    x.iter_mut().for_each(|v| *v /= norm);
    let (mut a, mut b, mut next) = (vec![0.0; m * m], vec![0.0; m * m], vec![0.0; m * n]);
    for _ in 0..5 {
        // X ← 3.4445·X + (−4.7750·A + 2.0315·A²)·X with A = X·Xᵀ, which is symmetric.
        linear::forward(&x, &x, &mut a, (m, m, n), false);
        linear::forward(&a, &a, &mut b, (m, m, m), false);
        for (b, a) in b.iter_mut().zip(&a) {
            *b = 2.0315 * *b - 4.7750 * a;
        }
        linear::backward_input(&b, &x, &mut next, (m, m, n), false);
        for (x, next) in x.iter_mut().zip(&next) {
            *x = 3.4445 * *x + next;
        }
    }
    if tall { transposed(&x, m, n) } else { x }
}

fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| matrix[r * columns + c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    #[test]
    fn orthogonalized_matrices_have_singular_values_near_one() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        for (rows, columns) in [(8, 24), (24, 8)] {
            let x: Vec<f32> = (0..rows * columns).map(|_| rng.random_range(-1.0..1.0)).collect();
            let y = orthogonalize(x, rows, columns);
            let y = if rows > columns { transposed(&y, rows, columns) } else { y };
            let mut gram = vec![0.0; 64];
            linear::forward(&y, &y, &mut gram, (8, 8, 24), false);
            for i in 0..8 {
                assert!((0.4..1.7).contains(&gram[i * 8 + i]), "{gram:?}");
            }
        }
    }

    #[test]
    fn both_rules_go_down_a_bowl_and_the_average_follows() {
        for muon in [false, true] {
            let name = if muon { "model.layers.0.a" } else { "b" };
            let values = vec![(name.to_string(), vec![4, 4], vec![1.0; 16])];
            let config =
                OptimizerConfig { learning_rate: 0.05, muon, average: 20, ..Default::default() };
            let mut optimizer = Optimizer::new(values, config);
            for _ in 0..300 {
                let gradient = optimizer.parameters[0].value.clone();
                optimizer.step(&[gradient], 1.0);
            }
            for list in [optimizer.weights(), optimizer.averages()] {
                assert!(list[0].iter().all(|x| x.abs() < 0.3), "{muon} {:?}", list[0]);
            }
            let before = optimizer.parameters[0].value.clone();
            assert!(optimizer.step(&[vec![f32::NAN; 16]], 1.0).is_nan());
            assert_eq!(optimizer.parameters[0].value, before);
        }
    }
}
