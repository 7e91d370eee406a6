//! Where the tensors of the network stand, and what of them is trained.

use crate::model::config::ModelConfig;
use crate::model::lora::{Method, is_linear};
use crate::model::ops::attention;
use crate::model::parameters::{LowRank, Parameters};
use crate::model::rope::RopeTable;

/// Where the tensors of one layer stand in [`ModelConfig::tensors`].
pub(super) struct LayerIndices {
    pub(super) input_layernorm: usize,
    pub(super) qkv_proj: [usize; 3],
    pub(super) qkv_bias: Option<[usize; 3]>,
    pub(super) qk_norm: Option<[usize; 2]>,
    pub(super) o_proj: usize,
    pub(super) post_attention_layernorm: usize,
    pub(super) gate_proj: usize,
    pub(super) up_proj: usize,
    pub(super) down_proj: usize,
}

/// What of a tensor is trained, and where its gradient stands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Trained {
    Nothing,
    Itself(usize),
    /// The A of its adapter; B follows.
    LowRank(usize),
}

/// What does not change between steps.
pub(super) struct Plan {
    pub(super) config: ModelConfig,
    pub(super) sequence: usize,
    pub(super) recompute: bool,
    pub(super) rope: RopeTable,
    /// By the place of the tensor.
    pub(super) trained: Vec<Trained>,
    /// Of the gradients.
    pub(super) sizes: Vec<usize>,
    pub(super) embed_tokens: usize,
    pub(super) layers: Vec<LayerIndices>,
    pub(super) norm: usize,
    pub(super) lm_head: usize,
}

impl Plan {
    pub(super) fn new(
        config: &ModelConfig,
        method: Method,
        sequence: usize,
        recompute: bool,
    ) -> Plan {
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
                qkv_bias: config
                    .has_qkv_bias()
                    .then(|| ["q", "k", "v"].map(|p| at(&format!("self_attn.{p}_proj.bias")))),
                qk_norm: (config.model_type.traits().qk_norm)
                    .then(|| ["q", "k"].map(|p| at(&format!("self_attn.{p}_norm.weight")))),
                o_proj: at("self_attn.o_proj.weight"),
                post_attention_layernorm: at("post_attention_layernorm.weight"),
                gate_proj: at("mlp.gate_proj.weight"),
                up_proj: at("mlp.up_proj.weight"),
                down_proj: at("mlp.down_proj.weight"),
            }
        };
        let embed_tokens = find("model.embed_tokens.weight").expect("every model embeds");
        Plan {
            sequence,
            recompute,
            rope: RopeTable::new(config, sequence),
            trained: trained(&tensors, method),
            sizes: method.tensors(config).iter().map(|(_, s)| s.iter().product()).collect(),
            embed_tokens,
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: find("model.norm.weight").expect("every model ends with a norm"),
            lm_head: find("lm_head.weight").unwrap_or(embed_tokens),
            config: config.clone(),
        }
    }

    /// The gradient of a tensor that is trained itself.
    pub(super) fn gradient<'a>(
        &self,
        index: usize,
        all: &'a mut [Vec<f32>],
    ) -> Option<&'a mut [f32]> {
        match self.trained[index] {
            Trained::Itself(at) => Some(&mut all[at]),
            _ => None,
        }
    }

    /// Whether anything before this layer is trained.
    pub(super) fn goes_below(&self, layer: &LayerIndices) -> bool {
        let first = self.layers[0].input_layernorm == layer.input_layernorm;
        !first || self.trained[self.embed_tokens] != Trained::Nothing
    }

    /// The adapters are where the gradients are made for, in their size.
    pub(super) fn check(&self, weights: &Parameters<'_>) {
        for (index, trained) in self.trained.iter().enumerate() {
            let fits = match (trained, weights.low_rank(index)) {
                (Trained::LowRank(at), Some(LowRank { a, b, .. })) => {
                    (a.len(), b.len()) == (self.sizes[*at], self.sizes[at + 1])
                }
                (Trained::LowRank(_), None) | (_, Some(_)) => false,
                (_, None) => true,
            };
            assert!(fits, "these are not the weights of the method that is trained");
        }
    }

    pub(super) fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    pub(super) fn shape(&self) -> attention::Shape {
        attention::Shape {
            sequence: self.sequence,
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
        }
    }
}

/// What of each tensor is trained.
fn trained(tensors: &[(String, Vec<usize>)], method: Method) -> Vec<Trained> {
    let mut next = 0;
    let each = tensors.iter().enumerate().map(|(at, (name, _))| match method {
        Method::Full => Trained::Itself(at),
        Method::Lora { .. } if is_linear(name) => {
            next += 2;
            Trained::LowRank(next - 2)
        }
        Method::Lora { .. } => Trained::Nothing,
    });
    each.collect()
}
