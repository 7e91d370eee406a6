//! The optimizer: Muon for the matrices of the layers, AdamW for embeddings, norms and biases.
//!
//! Muon (Jordan et al. 2024) orthogonalizes the momentum of a matrix by a Newton–Schulz iteration.
//! Its update is scaled to the root-mean-square of an AdamW update (Liu et al. 2025), so one learning
//! rate serves both. All state is visible and can be saved.

use candle_core::{Device, Result, Tensor, Var};

/// What can be tuned.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OptimizerConfig {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of all matrices, per step and unit of learning rate.
    pub weight_decay: f64,
    /// Largest norm of all gradients together.
    pub clip: f64,
    /// Use Muon for the matrices of the layers; AdamW for everything otherwise.
    pub muon: bool,
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.95;
const MOMENTUM: f64 = 0.95;
const EPSILON: f64 = 1e-8;

/// A trainable tensor with its moments.
pub struct Parameter {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its value.
    pub var: Var,
    /// First moment or momentum, same shape.
    pub first: Tensor,
    /// Second moment (AdamW only; empty for Muon).
    pub second: Option<Tensor>,
}

impl Parameter {
    fn is_matrix(&self) -> bool {
        self.var.rank() == 2
    }
}

/// All parameters in checkpoint order, and the number of steps taken.
pub struct Optimizer {
    /// In the order of [`crate::model::config::ModelConfig::tensors`].
    pub parameters: Vec<Parameter>,
    /// Steps taken.
    pub step: u64,
    config: OptimizerConfig,
}

/// What one step saw.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
}

impl Optimizer {
    /// Fresh moments for the variables.
    pub fn new(variables: Vec<(String, Var)>, config: OptimizerConfig) -> Result<Optimizer> {
        let parameters = variables
            .into_iter()
            .map(|(name, var)| {
                let zeros = || Tensor::zeros(var.shape(), var.dtype(), &Device::Cpu);
                let hidden = var.rank() == 2 && name.contains(".layers.");
                let second = if config.muon && hidden { None } else { Some(zeros()?) };
                Ok(Parameter { name, first: zeros()?, second, var })
            })
            .collect::<Result<_>>()?;
        Ok(Optimizer { parameters, step: 0, config })
    }

    /// Calls `f` with the values of all parameters, in order.
    pub fn with_weights<R>(&self, f: impl FnOnce(&[&[f32]]) -> R) -> Result<R> {
        let storages: Vec<_> =
            self.parameters.iter().map(|p| p.var.as_tensor().storage_and_layout().0).collect();
        let slices: Result<Vec<&[f32]>> = storages
            .iter()
            .map(|storage| match &**storage {
                candle_core::Storage::Cpu(storage) => storage.as_slice::<f32>(),
                _ => candle_core::bail!("parameters live on the CPU"),
            })
            .collect();
        Ok(f(&slices?))
    }

    /// One update with the gradients of `loss` and `scale` · the peak learning rate.
    ///
    /// # Errors
    /// A parameter without a gradient is an error: an operation upstream has no backward pass.
    pub fn step(&mut self, given: &[Vec<f32>], scale: f64) -> Result<StepReport> {
        let mut gradients = Vec::with_capacity(self.parameters.len());
        let mut squares = 0f64;
        for (parameter, gradient) in self.parameters.iter().zip(given) {
            let gradient = Tensor::from_slice(gradient, parameter.var.shape(), &Device::Cpu)?;
            squares += gradient.sqr()?.sum_all()?.to_scalar::<f32>()? as f64;
            gradients.push(gradient);
        }
        let gradient_norm = squares.sqrt();
        if !gradient_norm.is_finite() {
            return Ok(StepReport { gradient_norm });
        }
        let clip = (self.config.clip / gradient_norm).min(1.0);
        self.step += 1;
        let rate = self.config.learning_rate * scale;
        for (parameter, gradient) in self.parameters.iter_mut().zip(gradients) {
            let gradient = (gradient * clip)?;
            let update = if parameter.second.is_some() {
                adam(parameter, &gradient, self.step)?
            } else {
                muon(parameter, &gradient)?
            };
            let decay = if parameter.is_matrix() { rate * self.config.weight_decay } else { 0.0 };
            let value = parameter.var.as_tensor().detach();
            parameter.var.set(&((value * (1.0 - decay))? - (update * rate)?)?)?;
        }
        Ok(StepReport { gradient_norm })
    }
}

fn adam(parameter: &mut Parameter, gradient: &Tensor, step: u64) -> Result<Tensor> {
    let second = parameter.second.as_ref().expect("AdamW parameters have a second moment");
    let first = ((&parameter.first * BETA1)? + (gradient * (1.0 - BETA1))?)?;
    let second = ((second * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?;
    let correction = |beta: f64| 1.0 / (1.0 - beta.powi(step.min(100_000) as i32));
    let denominator = ((&second * correction(BETA2))?.sqrt()? + EPSILON)?;
    let update = ((&first * correction(BETA1))? / denominator)?;
    parameter.first = first;
    parameter.second = Some(second);
    Ok(update)
}

fn muon(parameter: &mut Parameter, gradient: &Tensor) -> Result<Tensor> {
    let momentum = ((&parameter.first * MOMENTUM)? + gradient)?;
    let nesterov = ((&momentum * MOMENTUM)? + gradient)?;
    parameter.first = momentum;
    let (rows, columns) = nesterov.dims2()?;
    orthogonalize(&nesterov)? * (0.2 * (rows.max(columns) as f64).sqrt())
}

/// The nearest semi-orthogonal matrix, roughly: five quintic Newton–Schulz steps.
fn orthogonalize(matrix: &Tensor) -> Result<Tensor> {
    let (rows, columns) = matrix.dims2()?;
    let tall = rows > columns;
    let x = if tall { matrix.t()?.contiguous()? } else { matrix.clone() };
    let norm = x.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt() as f64;
    let mut x = (x / (norm + 1e-7))?;
    for _ in 0..5 {
        let a = x.matmul(&x.t()?)?;
        let b = ((&a * -4.7750)? + (a.matmul(&a)? * 2.0315)?)?;
        x = ((&x * 3.4445)? + b.matmul(&x)?)?;
    }
    if tall { x.t()?.contiguous() } else { Ok(x) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthogonalized_matrices_have_singular_values_near_one() {
        for shape in [(8, 24), (24, 8)] {
            let x = Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap();
            let y = orthogonalize(&x).unwrap();
            let gram = if shape.0 < shape.1 {
                y.matmul(&y.t().unwrap())
            } else {
                y.t().unwrap().matmul(&y)
            };
            for (i, row) in gram.unwrap().to_vec2::<f32>().unwrap().iter().enumerate() {
                assert!((0.4..1.7).contains(&row[i]), "{row:?}");
            }
        }
    }
}
