//! The forward and backward pass of the network, written out: loss and gradients of whole batches on
//! the CPU. Each core works on its own sequences with its own buffers and gradients, added up at the
//! end, so nothing waits in between and nothing is allocated in a step.

mod plan;

use rayon::prelude::*;

use self::plan::{LayerIndices, Plan, Trained};
use super::config::ModelConfig;
use super::lora::{LINEAR, Method};
use super::ops::{Targets, attention, cross_entropy, linear, norm, rope, swiglu};
use super::parameters::Parameters;
use super::simd::{self, vectorize};

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
    low: [Vec<f32>; LINEAR.len()], // (S, rank), what the A of each adapter gives
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
    /// (S, rank), the gradient of what A gives.
    du: Vec<f32>,
    scratch: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    nats: Vec<f32>,
}

/// Loss and gradients of one model shape and sequence length.
pub struct Backprop {
    plan: Plan,
    workers: Vec<Worker>,
}

impl Backprop {
    /// Buffers for sequences of `sequence` tokens on `workers` cores, and for the gradients of what `method`
    /// trains. With `recompute` a layer keeps only its input and runs again in the backward pass (activation
    /// checkpointing, Chen et al. 2016): a third more work for a fraction of the memory.
    ///
    /// # Panics
    /// A model that is not [`ModelConfig::trainable`], which whoever trains has asked before.
    pub fn new(
        config: &ModelConfig,
        method: Method,
        sequence: usize,
        workers: usize,
        recompute: bool,
    ) -> Backprop {
        config.trainable().expect("a model that can be trained");
        let plan = Plan::new(config, method, sequence, recompute);
        let workers = (0..workers.max(1)).map(|_| Worker::new(&plan)).collect();
        Backprop { plan, workers }
    }

    /// Bytes that [`Backprop::new`] allocates with these arguments, and what grows at the first use.
    pub fn bytes(
        config: &ModelConfig,
        method: Method,
        sequence: usize,
        workers: usize,
        recompute: bool,
    ) -> usize {
        let gradients: usize =
            method.tensors(config).iter().map(|(_, s)| s.iter().product::<usize>()).sum();
        let activations = Backprop::activation_bytes(config, method, sequence, recompute);
        workers.max(1) * (4 * gradients + activations)
    }

    /// The part of [`Backprop::bytes`] that is no gradient, of one worker.
    pub fn activation_bytes(
        config: &ModelConfig,
        method: Method,
        sequence: usize,
        recompute: bool,
    ) -> usize {
        let (d, ffn) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.query_size(), config.kv_size());
        let rank = method.rank().unwrap_or(0);
        let activations = 4 * d + 3 * q + 3 * kv + 3 * ffn + LINEAR.len() * rank;
        let layers = config.num_hidden_layers;
        let kept = if recompute { activations + layers * d } else { activations * layers };
        let passing = 4 * d + ffn + 3 * q + 4 * kv + rank;
        let scratch = cross_entropy::scratch(config.vocab_size).max(128 * sequence);
        4 * (sequence * (kept + passing) + scratch)
    }

    /// The mean loss in nats of the targets, weighed by what they count, and its gradients, which stay readable through
    /// [`Backprop::gradients`]. `tokens` are whole sequences, one after the other. Weights that are
    /// frozen cost none: neither products nor memory, and what lies before the first adapter is not gone
    /// back to.
    ///
    /// # Panics
    /// `weights` that are not of the method that these buffers are for.
    pub fn loss_and_gradients<'t>(
        &mut self,
        weights: &Parameters<'_>,
        tokens: &[u32],
        targets: impl Into<Targets<'t>>,
    ) -> f32 {
        self.plan.check(weights);
        let targets = targets.into();
        let counted = targets.total().max(f32::MIN_POSITIVE);
        let scale = 1.0 / counted;
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
        (loss / f64::from(counted)) as f32
    }

    /// The gradients of the last loss, in the order of [`Method::tensors`].
    pub fn gradients(&self) -> &[Vec<f32>] {
        &self.workers[0].gradients
    }

    /// The sum of the nats of the targets, times what they count, without gradients.
    pub fn nats<'t>(
        &mut self,
        weights: &Parameters<'_>,
        tokens: &[u32],
        targets: impl Into<Targets<'t>>,
    ) -> f64 {
        self.each_sequence(tokens, targets.into(), |plan, worker, tokens, targets| {
            worker.forward(plan, weights, tokens);
            worker.loss(plan, weights, targets, None);
        })
    }

    /// The logits of whole sequences, (tokens, vocabulary).
    pub fn logits(&mut self, weights: &Parameters<'_>, tokens: &[u32]) -> Vec<f32> {
        let Backprop { plan, workers } = self;
        let (width, head) = (plan.config.hidden_size, weights.weight(plan.lm_head));
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
                head.each_block(width, |first, block| {
                    let dims = (plan.sequence, block.len() / width, width);
                    linear::forward_into(
                        &worker.h,
                        block,
                        (&mut logits[first..], vocabulary),
                        dims,
                    );
                });
            }
        });
        logits
    }

    /// Runs `work` over the sequences, a fixed share of them on each core; returns the sum of nats.
    fn each_sequence(
        &mut self,
        tokens: &[u32],
        targets: Targets<'_>,
        work: impl Fn(&Plan, &mut Worker, &[u32], Targets<'_>) + Sync,
    ) -> f64 {
        let Backprop { plan, workers } = self;
        assert!(tokens.len() == targets.ids.len() && tokens.len().is_multiple_of(plan.sequence));
        let share = (tokens.len() / plan.sequence).div_ceil(workers.len()).max(1) * plan.sequence;
        let sums: Vec<f64> = workers
            .par_iter_mut()
            .enumerate()
            .map(|(i, worker)| {
                let mine = (i * share).min(tokens.len())..((i + 1) * share).min(tokens.len());
                let pairs = tokens[mine.clone()].chunks(plan.sequence);
                let pairs = pairs.zip(targets.range(mine).sequences(plan.sequence));
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
        let raw = || match config.model_type.traits().qk_norm {
            true => [zeros(q), zeros(kv)],
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
            low: Default::default(),
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
            du: Vec::new(),
            scratch: vec![0.0; scratch],
            gradients: Vec::new(),
            nats: vec![0.0; s],
        }
    }

    /// Fills the activations of all layers and the last hidden states.
    fn forward(&mut self, plan: &Plan, weights: &Parameters<'_>, tokens: &[u32]) {
        let d = plan.config.hidden_size;
        weights.weight(plan.embed_tokens).gather(tokens, d, &mut self.x);
        for layer in 0..plan.layers.len() {
            if plan.recompute {
                self.inputs[layer].copy_from_slice(&self.x);
            }
            let slot = if plan.recompute { 0 } else { layer };
            let a = &mut self.activations[slot];
            a.x.copy_from_slice(&self.x);
            plan.forward_layer(weights, &plan.layers[layer], a, &mut self.x, &mut self.scratch);
        }
        norm::forward(&self.x, weights.vector(plan.norm), plan.epsilon(), &mut self.h);
    }

    /// The loss of every token; with a scale also the gradient of the last hidden states.
    fn loss(
        &mut self,
        plan: &Plan,
        weights: &Parameters<'_>,
        targets: Targets<'_>,
        scale: Option<f32>,
    ) {
        let (head, width) = (plan.lm_head, plan.config.hidden_size);
        let (dh, all) = (&mut self.dh[..], &mut self.gradients);
        let gradients = scale.map(|scale| cross_entropy::Gradients {
            hidden: dh,
            weight: plan.gradient(head, all),
            scale,
        });
        let (nats, scratch) = (&mut self.nats, &mut self.scratch);
        let (hidden, head) = (&self.h, weights.weight(head));
        cross_entropy::forward_backward(hidden, head, width, targets, nats, gradients, scratch);
    }

    /// Adds this sequence's gradients, from the gradient of the last hidden states down.
    fn backward(&mut self, plan: &Plan, weights: &Parameters<'_>, tokens: &[u32]) {
        let epsilon = plan.epsilon();
        self.dx.fill(0.0);
        let w = weights.vector(plan.norm);
        let dw = plan.gradient(plan.norm, &mut self.gradients);
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
        let Some(table) = plan.gradient(plan.embed_tokens, &mut self.gradients) else { return };
        for (dx, &id) in self.dx.chunks_exact(d).zip(tokens) {
            vectorize!(|| simd::axpy(1.0, dx, &mut table[id as usize * d..][..d]));
        }
    }

    /// Turns dx, the gradient of a layer's output, into that of its input; in the first layer only if the
    /// embeddings are trained.
    fn backward_layer(
        &mut self,
        plan: &Plan,
        weights: &Parameters<'_>,
        layer: &LayerIndices,
        slot: usize,
    ) {
        let (config, s, epsilon) = (&plan.config, plan.sequence, plan.epsilon());
        let (d, ffn, q) = (config.hidden_size, config.intermediate_size, config.query_size());
        let a = &mut self.activations[slot];
        let (dx, dh, dact, dy) = (&mut self.dx, &mut self.dh, &mut self.dact, &mut self.dy);
        let gradients = &mut self.gradients;
        let [low_q, low_k, low_v, low_o, low_gate, low_up, low_down] = &a.low;
        let mut linear = Backward { plan, weights, du: &mut self.du };

        // Feed-forward.
        let into = Some((&mut dact[..], false));
        linear.run(layer.down_proj, (dx, into), (&a.act, low_down), gradients, (s, d, ffn));
        swiglu::backward(&mut a.gate, &mut a.up, dact); // now their gradients
        let into = Some((&mut dh[..], false));
        linear.run(layer.gate_proj, (&a.gate, into), (&a.h_mid, low_gate), gradients, (s, ffn, d));
        let into = Some((&mut dh[..], true));
        linear.run(layer.up_proj, (&a.up, into), (&a.h_mid, low_up), gradients, (s, ffn, d));
        let index = layer.post_attention_layernorm;
        let (w, dw) = (weights.vector(index), plan.gradient(index, gradients));
        norm::backward(&a.x_mid, w, epsilon, dh, dx, dw);

        // Attention.
        let into = Some((&mut dy[..], false));
        linear.run(layer.o_proj, (dx, into), (&a.y, low_o), gradients, (s, d, q));
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
                let (w, dw) = (weights.vector(index), plan.gradient(index, gradients));
                norm::backward(&a.raw[i], w, epsilon, grad, draw, dw);
                std::mem::swap(grad, draw);
            }
        }
        let goes_on = plan.goes_below(layer);
        let lows = [low_q, low_k, low_v];
        for (i, (grad, low)) in [dq, dk, dv].into_iter().zip(lows).enumerate() {
            let dims = (s, grad.len() / s, d);
            let into = goes_on.then_some((&mut dh[..], i > 0));
            linear.run(layer.qkv_proj[i], (grad, into), (&a.h, low), gradients, dims);
            if let Some(index) = layer.qkv_bias.map(|bias| bias[i])
                && let Some(dbias) = plan.gradient(index, gradients)
            {
                linear::backward_bias(grad, dbias);
            }
        }
        if goes_on {
            let index = layer.input_layernorm;
            let (w, dw) = (weights.vector(index), plan.gradient(index, gradients));
            norm::backward(&a.x, w, epsilon, dh, dx, dw);
        }
    }
}

/// The backward pass of a linear layer.
struct Backward<'a> {
    plan: &'a Plan,
    weights: &'a Parameters<'a>,
    du: &'a mut Vec<f32>,
}

impl Backward<'_> {
    /// From dy, the gradient of the output: that of the input, written or added if it is asked for, and
    /// that of what is trained.
    fn run(
        &mut self,
        index: usize,
        (dy, dx): (&[f32], Option<(&mut [f32], bool)>),
        (x, low): (&[f32], &[f32]),
        gradients: &mut [Vec<f32>],
        dims: linear::Dims,
    ) {
        let dx = dx.map(|(dx, add)| {
            let weight = self.weights.weight(index);
            weight.read(|w| linear::backward_input(dy, w, dx, dims, add));
            dx
        });
        match (self.plan.trained[index], self.weights.low_rank(index)) {
            (Trained::LowRank(at), Some(adapter)) => {
                let (da, db) = gradients.split_at_mut(at + 1);
                let into = (&mut da[at][..], &mut db[0][..]);
                linear::backward_low_rank(dy, (x, low), adapter, into, (dx, self.du), dims);
            }
            (Trained::Itself(at), _) => linear::backward_weight(dy, x, &mut gradients[at], dims),
            _ => {}
        }
    }
}

impl Plan {
    /// y = x · Wᵀ with what an adapter adds, whose part way is kept in `low`; added to y if asked.
    fn linear(
        &self,
        weights: &Parameters<'_>,
        index: usize,
        x: &[f32],
        (y, add): (&mut [f32], bool),
        low: &mut Vec<f32>,
        dims: linear::Dims,
    ) {
        weights.weight(index).read(|w| linear::forward(x, w, y, dims, add));
        if let Some(adapter) = weights.low_rank(index) {
            linear::forward_low_rank(x, adapter, low, y, dims);
        }
    }

    /// x, the layer's input (also in `a.x`), becomes its output; `a` keeps what the backward pass needs.
    fn forward_layer(
        &self,
        weights: &Parameters<'_>,
        layer: &LayerIndices,
        a: &mut Activations,
        x: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (config, s, epsilon) = (&self.config, self.sequence, self.epsilon());
        let (d, ffn, q) = (config.hidden_size, config.intermediate_size, config.query_size());
        let [low_q, low_k, low_v, low_o, low_gate, low_up, low_down] = &mut a.low;
        norm::forward(x, weights.vector(layer.input_layernorm), epsilon, &mut a.h);
        let outputs = [(&mut a.q, low_q), (&mut a.k, low_k), (&mut a.v, low_v)];
        for (i, (out, low)) in outputs.into_iter().enumerate() {
            let width = out.len() / s;
            let normed = layer.qk_norm.and_then(|list| list.get(i).copied());
            let to = if normed.is_some() { &mut a.raw[i] } else { &mut *out };
            self.linear(weights, layer.qkv_proj[i], &a.h, (to, false), low, (s, width, d));
            if let Some(bias) = layer.qkv_bias {
                linear::add_bias(to, weights.vector(bias[i]));
            }
            if let Some(index) = normed {
                norm::forward(&a.raw[i], weights.vector(index), epsilon, out);
            }
            if i < 2 {
                rope::forward(out, width, &self.rope);
            }
        }
        attention::forward(&a.q, &a.k, &a.v, &mut a.y, self.shape(), scratch);
        self.linear(weights, layer.o_proj, &a.y, (x, true), low_o, (s, d, q));
        a.x_mid.copy_from_slice(x);
        let w = weights.vector(layer.post_attention_layernorm);
        norm::forward(x, w, epsilon, &mut a.h_mid);
        let gate = (&mut a.gate[..], false);
        self.linear(weights, layer.gate_proj, &a.h_mid, gate, low_gate, (s, ffn, d));
        let up = (&mut a.up[..], false);
        self.linear(weights, layer.up_proj, &a.h_mid, up, low_up, (s, ffn, d));
        swiglu::forward(&a.gate, &a.up, &mut a.act);
        self.linear(weights, layer.down_proj, &a.act, (x, true), low_down, (s, d, ffn));
    }
}
