//! Groups of matrices that share an input: what quantization chooses a type for, and what `model info`
//! shows. One group has one type, so that the engine can compute it in one parallel region.

use std::collections::BTreeMap;

use super::config::ModelConfig;

/// The place of a matrix in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The embedding table; also the output layer where the two are tied.
    Embedding,
    /// q, k and v.
    AttentionIn,
    /// o.
    AttentionOut,
    /// gate and up.
    FeedForwardIn,
    /// down.
    FeedForwardOut,
    /// The output layer, if it is not the embedding table.
    Head,
}

impl Part {
    /// A name for people and for JSON.
    pub fn name(self) -> &'static str {
        match self {
            Part::Embedding => "embedding",
            Part::AttentionIn => "attention in",
            Part::AttentionOut => "attention out",
            Part::FeedForwardIn => "feed-forward in",
            Part::FeedForwardOut => "feed-forward out",
            Part::Head => "head",
        }
    }
}

/// The matrices of one part of one layer; `layer` is 0 for the embedding and the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Group {
    /// Which part.
    pub part: Part,
    /// Which layer.
    pub layer: usize,
}

impl Group {
    /// The group of the matrix of that checkpoint name; `None` for norms and biases.
    pub fn of(name: &str) -> Option<Group> {
        let group = |part, layer| Some(Group { part, layer });
        match name {
            "model.embed_tokens.weight" => return group(Part::Embedding, 0),
            "lm_head.weight" => return group(Part::Head, 0),
            _ => {}
        }
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let part = match rest {
            "self_attn.q_proj.weight" | "self_attn.k_proj.weight" | "self_attn.v_proj.weight" => {
                Part::AttentionIn
            }
            "self_attn.o_proj.weight" => Part::AttentionOut,
            "mlp.gate_proj.weight" | "mlp.up_proj.weight" => Part::FeedForwardIn,
            "mlp.down_proj.weight" => Part::FeedForwardOut,
            _ => return None,
        };
        group(part, layer.parse().ok()?)
    }

    /// Every group of a network with its matrices: checkpoint names and shapes (out, in).
    pub fn all(config: &ModelConfig) -> BTreeMap<Group, Vec<(String, Vec<usize>)>> {
        let mut groups: BTreeMap<Group, Vec<_>> = BTreeMap::new();
        for (name, shape) in config.tensors() {
            if let Some(group) = Group::of(&name) {
                groups.entry(group).or_default().push((name, shape));
            }
        }
        groups
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.part {
            Part::Embedding | Part::Head => f.write_str(self.part.name()),
            part => write!(f, "{} {}", part.name(), self.layer),
        }
    }
}

/// The types of each part's matrices, as "q6_k" or "3 q4_k, 1 q8_0".
pub fn types_by_part(
    config: &ModelConfig,
    type_of: impl Fn(&str) -> &'static str,
) -> Vec<(Part, String)> {
    let mut counts: BTreeMap<Part, BTreeMap<&str, usize>> = BTreeMap::new();
    for (group, matrices) in Group::all(config) {
        for (name, _) in matrices {
            *counts.entry(group.part).or_default().entry(type_of(&name)).or_default() += 1;
        }
    }
    let text = |types: BTreeMap<&str, usize>| match types.len() {
        1 => types.into_keys().collect(),
        _ => types.iter().map(|(kind, n)| format!("{n} {kind}")).collect::<Vec<_>>().join(", "),
    };
    counts.into_iter().map(|(part, types)| (part, text(types))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_matrix_has_a_group_and_nothing_else_has() {
        let json = include_str!("../../models/tiny/config.json");
        let config = ModelConfig::from_json(json).unwrap();
        for (name, shape) in config.tensors() {
            assert_eq!(Group::of(&name).is_some(), shape.len() == 2, "{name}");
        }
        let groups = Group::all(&config);
        assert_eq!(groups.len(), 1 + 4 * config.num_hidden_layers);
        assert_eq!(groups[&Group { part: Part::AttentionIn, layer: 1 }].len(), 3);
        let types = types_by_part(&config, |name| if name.contains(".0.") { "a" } else { "b" });
        assert_eq!(types[0], (Part::Embedding, "b".into()));
        assert_eq!(types[1], (Part::AttentionIn, "3 a, 3 b".into()));
    }
}
