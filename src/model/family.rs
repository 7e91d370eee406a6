//! The decoder families that the engine can run: one row each of what sets them apart, and under which
//! names and in which order of rows the two kinds of model files keep their tensors.

use serde::{Deserialize, Serialize};

use super::config::ModelConfig;

/// A decoder family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // The table says what each is.
pub enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Granite,
    Starcoder2,
    GptBigcode,
    Gemma,
    #[serde(rename = "stablelm")]
    StableLm,
    Phi3,
}

/// How a vector is normalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// By its root mean square.
    Rms,
    /// By its root mean square; a safetensors file holds the weights less one.
    RmsLessOne,
    /// By mean and standard deviation, with a bias.
    Layer,
}

/// The function between the matrices of the feed-forward layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·σ(x).
    #[default]
    Silu,
    /// x·Φ(x).
    Gelu,
    /// The same with Φ approximated by a hyperbolic tangent.
    GeluTanh,
}

impl Activation {
    /// All of them, each as files call it.
    pub(super) const NAMES: [(&str, Activation); 6] = [
        ("silu", Activation::Silu),
        ("swish", Activation::Silu),
        ("gelu", Activation::Gelu),
        ("gelu_pytorch_tanh", Activation::GeluTanh),
        ("gelu_new", Activation::GeluTanh),
        ("gelu_fast", Activation::GeluTanh),
    ];

    /// The one of that name.
    pub(super) fn named(name: &str) -> Option<Activation> {
        Activation::NAMES.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// Its first name.
    pub(super) fn name(self) -> &'static str {
        Activation::NAMES.iter().find(|row| row.1 == self).map_or("silu", |row| row.0)
    }
}

/// What all models of a family have in common.
#[derive(Debug)]
pub struct Traits {
    family: Family,
    /// `model_type` in config.json.
    pub name: &'static str,
    /// `general.architecture` in GGUF.
    pub architecture: &'static str,
    /// The class in Transformers.
    pub class: &'static str,
    /// The norms of the residual stream.
    pub norm: NormKind,
    /// The activation where a file does not say.
    pub activation: Activation,
    /// Whether the activation of one matrix gates the product of another.
    pub gated: bool,
    /// Whether positions are rotations; else a table of vectors that are added to the embeddings.
    pub rotary: bool,
    /// Whether q, k and v have biases whatever a file says.
    pub qkv_bias: bool,
    /// Whether a file's `use_bias` is true where it does not say.
    pub biased: bool,
    /// A norm on every query and key head.
    pub qk_norm: bool,
    /// Whether GGUF files keep the two halves of each query and key head as pairs of rows.
    pub paired: bool,
    /// Whether GGUF files have q, k and v as one matrix, and gate and up where both are.
    pub fused: bool,
    /// Whether GGUF files may have biases on o and in the feed-forward layer.
    pub gguf_biases: bool,
    /// Whether the embedding table is the output layer where a file does not say.
    pub tied: bool,
    /// Whether the passes for training know it.
    pub trainable: bool,
}

const LLAMA: Traits = Traits {
    family: Family::Llama,
    name: "llama",
    architecture: "llama",
    class: "LlamaForCausalLM",
    norm: NormKind::Rms,
    activation: Activation::Silu,
    gated: true,
    rotary: true,
    qkv_bias: false,
    biased: false,
    qk_norm: false,
    paired: true,
    fused: false,
    gguf_biases: true,
    tied: false,
    trainable: true,
};

const FAMILIES: [Traits; 9] = [
    // Code Llama, deepseek-coder, granite-code.
    LLAMA,
    Traits {
        family: Family::Qwen2,
        name: "qwen2",
        architecture: "qwen2",
        class: "Qwen2ForCausalLM",
        qkv_bias: true,
        paired: false,
        gguf_biases: false,
        ..LLAMA
    },
    Traits {
        family: Family::Qwen3,
        name: "qwen3",
        architecture: "qwen3",
        class: "Qwen3ForCausalLM",
        qk_norm: true,
        paired: false,
        gguf_biases: false,
        ..LLAMA
    },
    // Llama with four multipliers.
    Traits {
        family: Family::Granite,
        name: "granite",
        architecture: "granite",
        class: "GraniteForCausalLM",
        trainable: false,
        ..LLAMA
    },
    Traits {
        family: Family::Starcoder2,
        name: "starcoder2",
        architecture: "starcoder2",
        class: "Starcoder2ForCausalLM",
        norm: NormKind::Layer,
        activation: Activation::GeluTanh,
        gated: false,
        biased: true,
        paired: false,
        tied: true,
        trainable: false,
        ..LLAMA
    },
    // StarCoder, SantaCoder, the large granite-code.
    Traits {
        family: Family::GptBigcode,
        name: "gpt_bigcode",
        architecture: "starcoder",
        class: "GPTBigCodeForCausalLM",
        norm: NormKind::Layer,
        activation: Activation::GeluTanh,
        gated: false,
        rotary: false,
        biased: true,
        paired: false,
        fused: true,
        tied: true,
        trainable: false,
        ..LLAMA
    },
    // CodeGemma.
    Traits {
        family: Family::Gemma,
        name: "gemma",
        architecture: "gemma",
        class: "GemmaForCausalLM",
        norm: NormKind::RmsLessOne,
        activation: Activation::GeluTanh,
        paired: false,
        gguf_biases: false,
        tied: true,
        trainable: false,
        ..LLAMA
    },
    // Stable Code.
    Traits {
        family: Family::StableLm,
        name: "stablelm",
        architecture: "stablelm",
        class: "StableLmForCausalLM",
        norm: NormKind::Layer,
        paired: false,
        gguf_biases: false,
        trainable: false,
        ..LLAMA
    },
    Traits {
        family: Family::Phi3,
        name: "phi3",
        architecture: "phi3",
        class: "Phi3ForCausalLM",
        paired: false,
        fused: true,
        gguf_biases: false,
        trainable: false,
        ..LLAMA
    },
];

impl Family {
    /// What its models have in common.
    pub fn traits(self) -> &'static Traits {
        FAMILIES.iter().find(|row| row.family == self).expect("each family has a row")
    }

    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        self.traits().name
    }

    /// The family of that `model_type`, if the engine can run it.
    pub fn from_name(name: &str) -> Option<Family> {
        FAMILIES.iter().find(|row| row.name == name).map(|row| row.family)
    }

    /// The family of that GGUF architecture, if the engine can run it.
    pub fn from_architecture(name: &str) -> Option<Family> {
        FAMILIES.iter().find(|row| row.architecture == name).map(|row| row.family)
    }

    /// One name of each family, for messages.
    pub fn list(name: impl Fn(&Traits) -> Option<&'static str>) -> String {
        FAMILIES.iter().filter_map(name).collect::<Vec<_>>().join(", ")
    }
}

/// Where a tensor of the network lies in a file.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    /// The file's name of the tensor.
    pub(super) tensor: String,
    pub(super) rows: Rows,
}

/// Which rows of a file's tensor are those of the network's; of a bias, which elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rows {
    All,
    /// Those from `first` of `stored`.
    Part {
        first: usize,
        stored: usize,
    },
    /// `head_dim` rows of each head's 3·`head_dim`: its queries, keys or values.
    OfHeads {
        which: usize,
        head_dim: usize,
        stored: usize,
    },
    /// All, but the two halves of each head are pairs.
    Paired {
        head_dim: usize,
    },
}

impl Rows {
    /// Rows of the file's tensor for `rows` of the network's.
    pub(super) fn stored(self, rows: usize) -> usize {
        match self {
            Rows::All | Rows::Paired { .. } => rows,
            Rows::Part { stored, .. } | Rows::OfHeads { stored, .. } => stored,
        }
    }

    /// The file's row of a row of the network.
    pub(super) fn source(self, row: usize) -> usize {
        match self {
            Rows::All => row,
            Rows::Part { first, .. } => first + row,
            Rows::OfHeads { which, head_dim, .. } => {
                (row / head_dim * 3 + which) * head_dim + row % head_dim
            }
            Rows::Paired { head_dim } => {
                let (head, i) = (row / head_dim, row % head_dim);
                let half = head_dim / 2;
                head * head_dim + if i < half { 2 * i } else { 2 * (i - half) + 1 }
            }
        }
    }
}

/// The network's name of a layer's part, and what it is called elsewhere; `_` where a family has it as the network
/// has.
struct LayerPart {
    own: &'static str,
    gpt_bigcode: &'static str,
    starcoder2: &'static str,
    phi3: &'static str,
    gguf: &'static str,
}

const fn part(names: [&'static str; 5]) -> LayerPart {
    let [own, gpt_bigcode, starcoder2, phi3, gguf] = names;
    LayerPart { own, gpt_bigcode, starcoder2, phi3, gguf }
}

const LAYER_PARTS: [LayerPart; 11] = [
    part(["input_layernorm", "ln_1", "_", "_", "attn_norm"]),
    part(["self_attn.q_proj", "attn.c_attn", "_", "self_attn.qkv_proj", "attn_q"]),
    part(["self_attn.k_proj", "attn.c_attn", "_", "self_attn.qkv_proj", "attn_k"]),
    part(["self_attn.v_proj", "attn.c_attn", "_", "self_attn.qkv_proj", "attn_v"]),
    part(["self_attn.q_norm", "_", "_", "_", "attn_q_norm"]),
    part(["self_attn.k_norm", "_", "_", "_", "attn_k_norm"]),
    part(["self_attn.o_proj", "attn.c_proj", "_", "_", "attn_output"]),
    part(["post_attention_layernorm", "ln_2", "_", "_", "ffn_norm"]),
    part(["mlp.gate_proj", "_", "_", "mlp.gate_up_proj", "ffn_gate"]),
    part(["mlp.up_proj", "mlp.c_fc", "mlp.c_fc", "mlp.gate_up_proj", "ffn_up"]),
    part(["mlp.down_proj", "mlp.c_proj", "mlp.c_proj", "_", "ffn_down"]),
];

/// The same for what is there once.
const PARTS: [(&str, &str, &str); 4] = [
    ("model.embed_tokens.weight", "transformer.wte.weight", "token_embd.weight"),
    (POSITIONS, "transformer.wpe.weight", "position_embd.weight"),
    ("model.norm", "transformer.ln_f", "output_norm"),
    ("lm_head.weight", "lm_head.weight", "output.weight"),
];

/// The table of learned positions (positions, hidden).
pub(super) const POSITIONS: &str = "model.embed_positions.weight";

/// A layer's number, a part's name, and `weight` or `bias`.
fn layer_part(name: &str) -> Option<(&str, &str, &str)> {
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    Some((layer, part, kind))
}

/// Which third of a fused matrix it is.
fn third(part: &str) -> Option<usize> {
    ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].iter().position(|p| *p == part)
}

/// Which half of a matrix that holds gate and up.
fn half(part: &str) -> Option<usize> {
    ["mlp.gate_proj", "mlp.up_proj"].iter().position(|p| *p == part)
}

/// The rows of gate or up in a matrix that holds both.
fn one_of_two(config: &ModelConfig, which: usize) -> Rows {
    let rows = config.intermediate_size;
    Rows::Part { first: which * rows, stored: 2 * rows }
}

/// The rows of q, k or v in a matrix that holds all three.
fn fused(config: &ModelConfig, which: usize, by_heads: bool) -> Rows {
    let (q, kv) = (config.query_size(), config.kv_size());
    let stored = q + 2 * kv;
    match by_heads {
        true => Rows::OfHeads { which, head_dim: config.head_dim, stored },
        false => Rows::Part { first: [0, q, q + kv][which], stored },
    }
}

/// Where a tensor of the network lies in a safetensors file.
pub(super) fn in_safetensors(config: &ModelConfig, name: &str) -> Place {
    let as_is = |name: String| Place { tensor: name, rows: Rows::All };
    let is_bigcode = config.model_type == Family::GptBigcode;
    let Some((layer, part, kind)) = layer_part(name) else {
        let renamed = PARTS
            .iter()
            .filter(|_| is_bigcode)
            .find_map(|(own, bigcode, _)| Some(format!("{bigcode}{}", name.strip_prefix(own)?)));
        return as_is(renamed.unwrap_or_else(|| name.to_string()));
    };
    let row = LAYER_PARTS.iter().find(|row| row.own == part);
    let theirs = row.map_or("_", |row| match config.model_type {
        Family::GptBigcode => row.gpt_bigcode,
        Family::Starcoder2 => row.starcoder2,
        Family::Phi3 => row.phi3,
        _ => "_",
    });
    if theirs == "_" {
        return as_is(name.to_string());
    }
    let head = if is_bigcode { "transformer.h" } else { "model.layers" };
    // Of gpt_bigcode, a single key/value head lies behind the queries; else each head has its own three.
    let by_heads = is_bigcode && config.num_key_value_heads > 1;
    let rows = match (third(part), half(part)) {
        (Some(which), _) if config.model_type.traits().fused => fused(config, which, by_heads),
        (_, Some(which)) if config.model_type == Family::Phi3 => one_of_two(config, which),
        _ => Rows::All,
    };
    Place { tensor: format!("{head}.{layer}.{theirs}.{kind}"), rows }
}

/// Where a tensor of the network lies in a GGUF file. The file's `attn_qkv` is asked for where it has one.
pub(super) fn in_gguf(config: &ModelConfig, name: &str, has: impl Fn(&str) -> bool) -> Place {
    let tensor = gguf_name(name);
    let Some((layer, part, kind)) = layer_part(name) else {
        return Place { tensor, rows: Rows::All };
    };
    if let Some(which) = half(part).filter(|_| config.model_type == Family::Phi3) {
        let tensor = format!("blk.{layer}.ffn_up.{kind}");
        return Place { tensor, rows: one_of_two(config, which) };
    }
    let Some(which) = third(part) else { return Place { tensor, rows: Rows::All } };
    let together = format!("blk.{layer}.attn_qkv.{kind}");
    if has(&together) {
        return Place { tensor: together, rows: fused(config, which, false) };
    }
    let paired = config.model_type.traits().paired && which < 2;
    let rows = if paired { Rows::Paired { head_dim: config.head_dim } } else { Rows::All };
    Place { tensor, rows }
}

/// The GGUF name of a tensor of the network.
pub fn gguf_name(name: &str) -> String {
    let renamed = match layer_part(name) {
        Some((layer, part, kind)) => LAYER_PARTS
            .iter()
            .find(|row| row.own == part)
            .map(|row| format!("blk.{layer}.{}.{kind}", row.gguf)),
        None => PARTS
            .iter()
            .find_map(|(own, _, theirs)| Some(format!("{theirs}{}", name.strip_prefix(own)?))),
    };
    renamed.unwrap_or_else(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_found_by_its_names() {
        for row in &FAMILIES {
            assert_eq!(Family::from_name(row.name), Some(row.family));
            assert_eq!(Family::from_architecture(row.architecture), Some(row.family));
            assert_eq!(serde_json::to_value(row.family).unwrap(), row.name);
        }
        assert_eq!(Family::list(|row| row.trainable.then_some(row.name)), "llama, qwen2, qwen3");
    }

    #[test]
    fn rows_of_a_fused_matrix_are_all_of_it_once() {
        for by_heads in [false, true] {
            let config = ModelConfig {
                num_attention_heads: 4,
                num_key_value_heads: 4,
                head_dim: 6,
                ..serde_json::from_str(include_str!("../../models/tiny/config.json")).unwrap()
            };
            let mut seen: Vec<usize> = (0..3)
                .flat_map(|which| (0..24).map(move |row| (which, row)))
                .map(|(which, row)| fused(&config, which, by_heads).source(row))
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..72).collect::<Vec<_>>());
        }
        let paired = Rows::Paired { head_dim: 4 };
        assert_eq!((0..8).map(|r| paired.source(r)).collect::<Vec<_>>(), [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
