//! Where losses and gradients are computed: the CPU by the passes that are written out, or a CUDA device by
//! candle's graph (a build with the feature `cuda`). Weights and optimizer stay in main memory.

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, Var};

use crate::model::backprop::{Backprop, WeightSlices};
use crate::model::config::ModelConfig;
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
        sequence: usize,
        workers: usize,
        recompute: bool,
    ) -> Gradients {
        Gradients::Cpu(Backprop::new(config, sequence, workers, recompute))
    }

    /// The graph on the first CUDA device.
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
    pub fn loss_and_gradients(
        &mut self,
        weights: &WeightSlices<'_>,
        tokens: &[u32],
        targets: &[u32],
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
    pub fn nats(
        &mut self,
        weights: &WeightSlices<'_>,
        tokens: &[u32],
        targets: &[u32],
    ) -> Result<f64> {
        match self {
            Gradients::Cpu(passes) => Ok(passes.nats(weights, tokens, targets)),
            Gradients::Graph(graph) => {
                let (model, _) = graph.model(weights)?;
                let mean: f32 = model.loss(tokens, targets, graph.sequence)?.to_scalar()?;
                let counted = targets.iter().filter(|&&t| t != crate::model::ops::IGNORE).count();
                Ok(mean as f64 * counted as f64)
            }
        }
    }
}

impl Graph {
    /// The network over copies of the weights on the device.
    fn model(&self, weights: &WeightSlices<'_>) -> Result<(Transformer, Vec<(String, Var)>)> {
        let mut variables = Vec::new();
        for ((name, shape), values) in self.config.tensors().into_iter().zip(weights) {
            let tensor = Tensor::from_slice(values, shape, &self.device)?;
            variables.push((name, Var::from_tensor(&tensor)?));
        }
        let model = Transformer::new(&self.config, &mut |name, _| {
            let found = variables.iter().find(|(own, _)| own == name);
            Ok(found.expect("the list of tensors is complete").1.as_tensor().clone())
        })?;
        Ok((model, variables))
    }
}
