//! The forward and backward pass of the network, written out: loss and gradients of whole batches on
//! the CPU. Each core works on its own sequences with its own buffers and gradients, added up at the
//! end, so nothing waits in between and nothing is allocated in a step.

use rayon::prelude::*;

use super::config::{Family, ModelConfig};
use super::ops::{attention, cross_entropy, linear, norm, rope, swiglu};
use super::rope::RopeTable;
use super::simd::{self, vectorize};

/// Where the tensors of one layer stand in [`ModelConfig::tensors`].
struct LayerIndices {
    input_layernorm: usize,
    qkv_proj: [usize; 3],
    qkv_bias: Option<[usize; 3]>,
    qk_norm: Option<[usize; 2]>,
    o_proj: usize,
    post_attention_layernorm: usize,
    gate_proj: usize,
    up_proj: usize,
    down_proj: usize,
}

/// What does not change between steps.
struct Plan {
    config: ModelConfig,
    sequence: usize,
    recompute: bool,
    rope: RopeTable,
    sizes: Vec<usize>,
    embed_tokens: usize,
    layers: Vec<LayerIndices>,
    norm: usize,
    lm_head: usize,
}

/// What the backward pass of one layer needs of its forward pass; S is the sequence.
#[derive(Default)]
struct Activations {
    x: Vec<f32>,        // (S, hidden), the layer's input
    h: Vec<f32>,        // (S, hidden), normalized
    raw: [Vec<f32>; 2], // q and k before QK-norm
    q: Vec<f32>,        // (S, heads·head_dim)
    k: Vec<f32>,        // (S, kv_heads·head_dim)
    v: Vec<f32>,
    y: Vec<f32>,     // (S, heads·head_dim), what attention gives
    x_mid: Vec<f32>, // (S, hidden), after attention
    h_mid: Vec<f32>,
    gate: Vec<f32>, // (S, intermediate)
    up: Vec<f32>,
    act: Vec<f32>,
}

/// The buffers of one core.
struct Worker {
    /// One per layer, or a single one that every layer is computed into again.
    activations: Vec<Activations>,
    /// The inputs of the layers, when they are computed again.
    inputs: Vec<Vec<f32>>,
    x: Vec<f32>,
    h: Vec<f32>,
    dx: Vec<f32>,
    dh: Vec<f32>,
    dact: Vec<f32>,
    dy: Vec<f32>,
    dqkv: [Vec<f32>; 3],
    draw: [Vec<f32>; 2],
    scratch: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    nats: Vec<f32>,
}

/// Loss and gradients of one model shape and sequence length.
pub struct Backprop {
    plan: Plan,
    workers: Vec<Worker>,
}

/// The weights in the order of [`ModelConfig::tensors`].
pub type WeightSlices<'a> = [&'a [f32]];

impl Backprop {
    /// Buffers for sequences of `sequence` tokens on `workers` cores. With `recompute` a layer keeps only
    /// its input and runs again in the backward pass (activation checkpointing, Chen et al. 2016): a
    /// third more work for a fraction of the memory.
    pub fn new(config: &ModelConfig, sequence: usize, workers: usize, recompute: bool) -> Backprop {
        let tensors = config.tensors();
        let find = |name: &str| tensors.iter().position(|(n, _)| n == name);
        let layer = |layer: usize| {
            let at = |name: &str| {
                let name = format!("model.layers.{layer}.{name}");
                find(&name).expect("every layer has its tensors")
            };
            LayerIndices {
                input_layernorm: at("input_layernorm.weight"),
                qkv_proj: ["q", "k", "v"].map(|p| at(&format!("self_attn.{p}_proj.weight"))),
                qkv_bias: (config.model_type == Family::Qwen2)
                    .then(|| ["q", "k", "v"].map(|p| at(&format!("self_attn.{p}_proj.bias")))),
                qk_norm: (config.model_type == Family::Qwen3)
                    .then(|| ["q", "k"].map(|p| at(&format!("self_attn.{p}_norm.weight")))),
                o_proj: at("self_attn.o_proj.weight"),
                post_attention_layernorm: at("post_attention_layernorm.weight"),
                gate_proj: at("mlp.gate_proj.weight"),
                up_proj: at("mlp.up_proj.weight"),
                down_proj: at("mlp.down_proj.weight"),
            }
        };
        let embed_tokens = find("model.embed_tokens.weight").expect("every model embeds");
        let plan = Plan {
            sequence,
            recompute,
            rope: RopeTable::new(config.head_dim, config.rope_theta, sequence),
            sizes: tensors.iter().map(|(_, shape)| shape.iter().product()).collect(),
            embed_tokens,
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: find("model.norm.weight").expect("every model ends with a norm"),
            lm_head: find("lm_head.weight").unwrap_or(embed_tokens),
            config: config.clone(),
        };
        let workers = (0..workers.max(1)).map(|_| Worker::new(&plan)).collect();
        Backprop { plan, workers }
    }

    /// Bytes that [`Backprop::new`] allocates with these arguments.
    pub fn bytes(config: &ModelConfig, sequence: usize, workers: usize, recompute: bool) -> usize {
        let (d, ffn) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.query_size(), config.kv_size());
        let activations = 4 * d + 3 * q + 3 * kv + 3 * ffn;
        let layers = config.num_hidden_layers;
        let kept = if recompute { activations + layers * d } else { activations * layers };
        let passing = 4 * d + ffn + 3 * q + 4 * kv;
        let scratch = cross_entropy::scratch(config.vocab_size).max(128 * sequence);
        4 * workers.max(1) * (sequence * (kept + passing) + scratch + config.parameter_count())
    }

    /// The mean loss in nats of the targets that count, and its gradients, which stay readable through
    /// [`Backprop::gradients`]. `tokens` are whole sequences, one after the other.
    pub fn loss_and_gradients(
        &mut self,
        weights: &WeightSlices<'_>,
        tokens: &[u32],
        targets: &[u32],
    ) -> f32 {
        let counted = targets.iter().filter(|&&t| t != cross_entropy::IGNORE).count().max(1);
        let scale = 1.0 / counted as f32;
        let Backprop { plan, workers } = self;
        for worker in workers {
            // Made at the first use: a model that is only evaluated needs none.
            worker.gradients.resize_with(plan.sizes.len(), Vec::new);
            for (gradient, &size) in worker.gradients.iter_mut().zip(&plan.sizes) {
                gradient.clear();
                gradient.resize(size, 0.0);
            }
        }
        let loss: f64 = self.each_sequence(tokens, targets, |plan, worker, tokens, targets| {
            worker.forward(plan, weights, tokens);
            worker.loss(plan, weights, targets, Some(scale));
            worker.backward(plan, weights, tokens);
        });
        let (first, rest) = self.workers.split_first_mut().expect("there is a worker");
        first.gradients.par_iter_mut().enumerate().for_each(|(i, sum)| {
            vectorize!(|| rest.iter().for_each(|w| simd::axpy(1.0, &w.gradients[i], sum)));
        });
        (loss / counted as f64) as f32
    }

    /// The gradients of the last loss, in the order of [`ModelConfig::tensors`].
    pub fn gradients(&self) -> &[Vec<f32>] {
        &self.workers[0].gradients
    }

    /// The sum of the nats of the targets that count, without gradients.
    pub fn nats(&mut self, weights: &WeightSlices<'_>, tokens: &[u32], targets: &[u32]) -> f64 {
        self.each_sequence(tokens, targets, |plan, worker, tokens, targets| {
            worker.forward(plan, weights, tokens);
            worker.loss(plan, weights, targets, None);
        })
    }

    /// The logits of whole sequences, (tokens, vocabulary).
    pub fn logits(&mut self, weights: &WeightSlices<'_>, tokens: &[u32]) -> Vec<f32> {
        let Backprop { plan, workers } = self;
        let (width, head) = (plan.config.hidden_size, weights[plan.lm_head]);
        let vocabulary = head.len() / width;
        let rows = plan.sequence * vocabulary;
        let mut logits = vec![0f32; tokens.len() * vocabulary];
        let share = (tokens.len() / plan.sequence).div_ceil(workers.len()).max(1);
        let tasks =
            logits.par_chunks_mut(share * rows).zip(tokens.par_chunks(share * plan.sequence));
        tasks.zip(workers.par_iter_mut()).for_each(|((logits, tokens), worker)| {
            let sequences = logits.chunks_mut(rows).zip(tokens.chunks(plan.sequence));
            for (logits, tokens) in sequences {
                worker.forward(plan, weights, tokens);
                let dims = (plan.sequence, vocabulary, width);
                linear::forward(&worker.h, head, logits, dims, false);
            }
        });
        logits
    }

    /// Runs `work` over the sequences, a fixed share of them on each core; returns the sum of nats.
    fn each_sequence(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        work: impl Fn(&Plan, &mut Worker, &[u32], &[u32]) + Sync,
    ) -> f64 {
        let Backprop { plan, workers } = self;
        assert!(tokens.len() == targets.len() && tokens.len().is_multiple_of(plan.sequence));
        let share = (tokens.len() / plan.sequence).div_ceil(workers.len()).max(1) * plan.sequence;
        let sums: Vec<f64> = workers
            .par_iter_mut()
            .enumerate()
            .map(|(i, worker)| {
                let mine = (i * share).min(tokens.len())..((i + 1) * share).min(tokens.len());
                let pairs = tokens[mine.clone()].chunks(plan.sequence);
                let pairs = pairs.zip(targets[mine].chunks(plan.sequence));
                pairs
                    .map(|(tokens, targets)| {
                        work(plan, worker, tokens, targets);
                        worker.nats.iter().map(|&n| n as f64).sum::<f64>()
                    })
                    .sum()
            })
            .collect();
        sums.iter().sum()
    }
}

impl Worker {
    fn new(plan: &Plan) -> Worker {
        let (config, s) = (&plan.config, plan.sequence);
        let zeros = |width: usize| vec![0f32; s * width];
        let (d, ffn) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.query_size(), config.kv_size());
        let raw = || match config.model_type {
            Family::Qwen3 => [zeros(q), zeros(kv)],
            _ => Default::default(),
        };
        let activations = || Activations {
            x: zeros(d),
            h: zeros(d),
            raw: raw(),
            q: zeros(q),
            k: zeros(kv),
            v: zeros(kv),
            y: zeros(q),
            x_mid: zeros(d),
            h_mid: zeros(d),
            gate: zeros(ffn),
            up: zeros(ffn),
            act: zeros(ffn),
        };
        let layers = config.num_hidden_layers;
        let scratch = cross_entropy::scratch(config.vocab_size).max(plan.shape().scratch());
        Worker {
            activations: (0..if plan.recompute { 1 } else { layers })
                .map(|_| activations())
                .collect(),
            inputs: (0..if plan.recompute { layers } else { 0 }).map(|_| zeros(d)).collect(),
            x: zeros(d),
            h: zeros(d),
            dx: zeros(d),
            dh: zeros(d),
            dact: zeros(ffn),
            dy: zeros(q),
            dqkv: [zeros(q), zeros(kv), zeros(kv)],
            draw: raw(),
            scratch: vec![0.0; scratch],
            gradients: Vec::new(),
            nats: vec![0.0; s],
        }
    }

    /// Fills the activations of all layers and the last hidden states.
    fn forward(&mut self, plan: &Plan, weights: &WeightSlices<'_>, tokens: &[u32]) {
        let d = plan.config.hidden_size;
        let table = weights[plan.embed_tokens];
        for (x, &id) in self.x.chunks_exact_mut(d).zip(tokens) {
            x.copy_from_slice(&table[id as usize * d..][..d]);
        }
        for layer in 0..plan.layers.len() {
            if plan.recompute {
                self.inputs[layer].copy_from_slice(&self.x);
            }
            let slot = if plan.recompute { 0 } else { layer };
            let a = &mut self.activations[slot];
            a.x.copy_from_slice(&self.x);
            plan.forward_layer(weights, &plan.layers[layer], a, &mut self.x, &mut self.scratch);
        }
        norm::forward(&self.x, weights[plan.norm], plan.epsilon(), &mut self.h);
    }

    /// The loss of every token; with a scale also the gradient of the last hidden states.
    fn loss(
        &mut self,
        plan: &Plan,
        weights: &WeightSlices<'_>,
        targets: &[u32],
        scale: Option<f32>,
    ) {
        let (head, width) = (plan.lm_head, plan.config.hidden_size);
        let (dh, all) = (&mut self.dh[..], &mut self.gradients);
        let gradients = scale.map(|scale| (dh, &mut all[head][..], scale));
        let (nats, scratch) = (&mut self.nats, &mut self.scratch);
        let hidden = &self.h;
        cross_entropy::forward_backward(
            hidden,
            weights[head],
            width,
            targets,
            nats,
            gradients,
            scratch,
        );
    }

    /// Adds this sequence's gradients, from the gradient of the last hidden states down.
    fn backward(&mut self, plan: &Plan, weights: &WeightSlices<'_>, tokens: &[u32]) {
        let epsilon = plan.epsilon();
        self.dx.fill(0.0);
        let (w, dw) = (weights[plan.norm], &mut self.gradients[plan.norm]);
        norm::backward(&self.x, w, epsilon, &self.dh, &mut self.dx, dw);
        for (layer, indices) in plan.layers.iter().enumerate().rev() {
            let slot = if plan.recompute { 0 } else { layer };
            if plan.recompute {
                let a = &mut self.activations[0];
                a.x.copy_from_slice(&self.inputs[layer]);
                self.x.copy_from_slice(&self.inputs[layer]);
                plan.forward_layer(weights, indices, a, &mut self.x, &mut self.scratch);
            }
            self.backward_layer(plan, weights, indices, slot);
        }
        let d = plan.config.hidden_size;
        let table = &mut self.gradients[plan.embed_tokens];
        for (dx, &id) in self.dx.chunks_exact(d).zip(tokens) {
            vectorize!(|| simd::axpy(1.0, dx, &mut table[id as usize * d..][..d]));
        }
    }

    /// Turns dx, the gradient of a layer's output, into that of its input.
    fn backward_layer(
        &mut self,
        plan: &Plan,
        weights: &WeightSlices<'_>,
        layer: &LayerIndices,
        slot: usize,
    ) {
        let (config, s, epsilon) = (&plan.config, plan.sequence, plan.epsilon());
        let (d, ffn, q) = (config.hidden_size, config.intermediate_size, config.query_size());
        let a = &mut self.activations[slot];
        let (dx, dh, dact, dy) = (&mut self.dx, &mut self.dh, &mut self.dact, &mut self.dy);
        let gradients = &mut self.gradients;

        // Feed-forward.
        linear::backward_input(dx, weights[layer.down_proj], dact, (s, d, ffn), false);
        linear::backward_weight(dx, &a.act, &mut gradients[layer.down_proj], (s, d, ffn));
        swiglu::backward(&mut a.gate, &mut a.up, dact); // now their gradients
        for (index, dy, add) in [(layer.gate_proj, &a.gate, false), (layer.up_proj, &a.up, true)] {
            linear::backward_input(dy, weights[index], dh, (s, ffn, d), add);
            linear::backward_weight(dy, &a.h_mid, &mut gradients[index], (s, ffn, d));
        }
        let index = layer.post_attention_layernorm;
        norm::backward(&a.x_mid, weights[index], epsilon, dh, dx, &mut gradients[index]);

        // Attention.
        linear::backward_input(dx, weights[layer.o_proj], dy, (s, d, q), false);
        linear::backward_weight(dx, &a.y, &mut gradients[layer.o_proj], (s, d, q));
        let [dq, dk, dv] = &mut self.dqkv;
        dk.fill(0.0);
        dv.fill(0.0);
        let inputs = [&a.q[..], &a.k, &a.v, &a.y, dy];
        attention::backward(inputs, [dq, dk, dv], plan.shape(), &mut self.scratch);
        for (i, grad) in [&mut *dq, &mut *dk].into_iter().enumerate() {
            let width = grad.len() / s;
            rope::backward(grad, width, &plan.rope);
            if let Some(index) = layer.qk_norm.map(|list| list[i]) {
                let draw = &mut self.draw[i];
                draw.fill(0.0);
                let dw = &mut gradients[index];
                norm::backward(&a.raw[i], weights[index], epsilon, grad, draw, dw);
                std::mem::swap(grad, draw);
            }
        }
        for (i, grad) in [dq, dk, dv].into_iter().enumerate() {
            let dims = (s, grad.len() / s, d);
            let index = layer.qkv_proj[i];
            linear::backward_input(grad, weights[index], dh, dims, i > 0);
            linear::backward_weight(grad, &a.h, &mut gradients[index], dims);
            if let Some(bias) = layer.qkv_bias {
                linear::backward_bias(grad, &mut gradients[bias[i]]);
            }
        }
        let index = layer.input_layernorm;
        norm::backward(&a.x, weights[index], epsilon, dh, dx, &mut gradients[index]);
    }
}

impl Plan {
    fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    fn shape(&self) -> attention::Shape {
        attention::Shape {
            sequence: self.sequence,
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
        }
    }

    /// x, the layer's input (also in `a.x`), becomes its output; `a` keeps what the backward pass needs.
    fn forward_layer(
        &self,
        weights: &WeightSlices<'_>,
        layer: &LayerIndices,
        a: &mut Activations,
        x: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (config, s, epsilon) = (&self.config, self.sequence, self.epsilon());
        let (d, ffn, q) = (config.hidden_size, config.intermediate_size, config.query_size());
        norm::forward(x, weights[layer.input_layernorm], epsilon, &mut a.h);
        for (i, out) in [&mut a.q, &mut a.k, &mut a.v].into_iter().enumerate() {
            let width = out.len() / s;
            let normed = layer.qk_norm.and_then(|list| list.get(i).copied());
            let to = if normed.is_some() { &mut a.raw[i] } else { &mut *out };
            linear::forward(&a.h, weights[layer.qkv_proj[i]], to, (s, width, d), false);
            if let Some(bias) = layer.qkv_bias {
                linear::add_bias(to, weights[bias[i]]);
            }
            if let Some(index) = normed {
                norm::forward(&a.raw[i], weights[index], epsilon, out);
            }
            if i < 2 {
                rope::forward(out, width, &self.rope);
            }
        }
        attention::forward(&a.q, &a.k, &a.v, &mut a.y, self.shape(), scratch);
        linear::forward(&a.y, weights[layer.o_proj], x, (s, d, q), true);
        a.x_mid.copy_from_slice(x);
        norm::forward(x, weights[layer.post_attention_layernorm], epsilon, &mut a.h_mid);
        linear::forward(&a.h_mid, weights[layer.gate_proj], &mut a.gate, (s, ffn, d), false);
        linear::forward(&a.h_mid, weights[layer.up_proj], &mut a.up, (s, ffn, d), false);
        swiglu::forward(&a.gate, &a.up, &mut a.act);
        linear::forward(&a.act, weights[layer.down_proj], x, (s, d, ffn), true);
    }
}
