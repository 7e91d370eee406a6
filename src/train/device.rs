//! Where losses and gradients are computed: the CPU by the passes that are written out, or a CUDA device by
//! candle's graph (a build with the feature `cuda`). Weights and optimizer stay in main memory.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, Var};

use crate::model::backprop::Backprop;
use crate::model::config::ModelConfig;
use crate::model::lora::Method;
use crate::model::ops::Targets;
use crate::model::parameters::Parameters;
use crate::model::transformer::Transformer;

/// Loss and gradients of one model shape and sequence length.
pub enum Gradients {
    /// On the CPU.
    Cpu(Backprop),
    /// By the graph, on any device.
    Graph(Graph),
}

/// The network as a graph on a device.
pub struct Graph {
    config: ModelConfig,
    device: Device,
    sequence: usize,
    gradients: Vec<Vec<f32>>,
}

impl Gradients {
    /// The passes of the CPU; see [`Backprop::new`].
    pub fn cpu(
        config: &ModelConfig,
        method: Method,
        sequence: usize,
        workers: usize,
        recompute: bool,
    ) -> Gradients {
        Gradients::Cpu(Backprop::new(config, method, sequence, workers, recompute))
    }

    /// The graph on the first CUDA device. It trains whatever the weights it is given say.
    ///
    /// # Errors
    /// A build without the feature `cuda`, or no device.
    pub fn cuda(config: &ModelConfig, sequence: usize) -> Result<Gradients> {
        let device = Device::new_cuda(0).context(
            "no CUDA device can be used; it needs a GPU and a build with `--features cuda`",
        )?;
        Ok(Gradients::graph(config, sequence, device))
    }

    /// The graph on that device.
    pub fn graph(config: &ModelConfig, sequence: usize, device: Device) -> Gradients {
        Gradients::Graph(Graph { config: config.clone(), device, sequence, gradients: Vec::new() })
    }

    /// As [`Backprop::loss_and_gradients`].
    pub fn loss_and_gradients<'t>(
        &mut self,
        weights: &Parameters<'_>,
        tokens: &[u32],
        targets: impl Into<Targets<'t>>,
    ) -> Result<f32> {
        let graph = match self {
            Gradients::Cpu(passes) => {
                return Ok(passes.loss_and_gradients(weights, tokens, targets));
            }
            Gradients::Graph(graph) => graph,
        };
        let (model, variables) = graph.model(weights)?;
        let loss = model.loss(tokens, targets, graph.sequence)?;
        let store = loss.backward()?;
        graph.gradients = variables
            .iter()
            .map(|(name, var)| {
                let gradient = store.get(var).with_context(|| format!("{name} has no gradient"))?;
                Ok(gradient.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
            })
            .collect::<Result<_>>()?;
        Ok(loss.to_scalar()?)
    }

    /// The gradients of the last loss.
    pub fn gradients(&self) -> &[Vec<f32>] {
        match self {
            Gradients::Cpu(passes) => passes.gradients(),
            Gradients::Graph(graph) => &graph.gradients,
        }
    }

    /// As [`Backprop::nats`].
    pub fn nats<'t>(
        &mut self,
        weights: &Parameters<'_>,
        tokens: &[u32],
        targets: impl Into<Targets<'t>>,
    ) -> Result<f64> {
        match self {
            Gradients::Cpu(passes) => Ok(passes.nats(weights, tokens, targets)),
            Gradients::Graph(graph) => {
                let (model, _) = graph.model(weights)?;
                let targets = targets.into();
                let mean: f32 = model.loss(tokens, targets, graph.sequence)?.to_scalar()?;
                Ok(f64::from(mean) * f64::from(targets.total()))
            }
        }
    }
}

impl Graph {
    /// The network over copies of the weights on the device, and what of it is trained, in order.
    fn model(&self, weights: &Parameters<'_>) -> Result<(Transformer, Vec<(String, Var)>)> {
        let (mut tensors, mut variables) = (HashMap::new(), Vec::new());
        for (at, (name, shape)) in self.config.tensors().into_iter().enumerate() {
            let values = weights.weight(at).to_vec();
            let mut tensor = Tensor::from_vec(values, &shape[..], &self.device)?;
            let mut variable = |name: String, value: &Tensor| -> Result<Tensor> {
                let var = Var::from_tensor(value)?;
                let tensor = var.as_tensor().clone();
                variables.push((name, var));
                Ok(tensor)
            };
            if let Some(adapter) = weights.low_rank(at) {
                let rank = adapter.rank;
                let a = Tensor::from_slice(adapter.a, (rank, shape[1]), &self.device)?;
                let b = Tensor::from_slice(adapter.b, (shape[0], rank), &self.device)?;
                let a = variable(format!("{name} A"), &a)?;
                let b = variable(format!("{name} B"), &b)?;
                tensor = (tensor + (b.matmul(&a)? * adapter.scale as f64)?)?;
            } else if !weights.is_adapted() {
                tensor = variable(name.clone(), &tensor)?;
            }
            tensors.insert(name, tensor);
        }
        let model = Transformer::new(&self.config, &mut |name, _| Ok(tensors[name].clone()))?;
        Ok((model, variables))
    }
}
