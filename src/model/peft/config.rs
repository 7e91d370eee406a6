//! adapter_config.json: rank and scale of each module, and what makes an adapter something else than plain
//! LoRA, which is refused.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::model::lora::MAX_RANK;
use crate::model::weights::LoadError;

type Result<T> = std::result::Result<T, LoadError>;

/// What decides the computation, of adapter_config.json.
pub(super) struct Config {
    path: PathBuf,
    pub(super) base_name: Option<String>,
    rank: usize,
    alpha: f64,
    ranks: Vec<(String, f64)>,
    alphas: Vec<(String, f64)>,
    root: bool,
}

/// Keys whose presence makes it something else than x·Wᵀ + scale·(x·Aᵀ)·Bᵀ.
const REFUSED: [&str; 17] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "fan_in_fan_out",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
    "megatron_config",
    "corda_config",
    "lora_ga_config",
];

impl Config {
    pub(super) fn read(path: &Path) -> Result<Config> {
        let at = |reason: String| LoadError::new(path, reason);
        let text = std::fs::read_to_string(path).map_err(|e| at(e.to_string()))?;
        let json: Value = serde_json::from_str(&text).map_err(|e| at(format!("not JSON: {e}")))?;
        let kind = json["peft_type"].as_str().unwrap_or("(none)");
        if kind != "LORA" {
            return Err(at(format!("peft_type {kind} cannot be used; supported: LORA")));
        }
        let on = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        };
        if let Some(key) = REFUSED.iter().find(|key| on(&json[**key])) {
            return Err(at(format!(
                "{key} is {}: that is no plain LoRA, and not supported",
                json[*key]
            )));
        }
        if json["bias"].as_str().is_some_and(|bias| bias != "none") {
            return Err(at(format!("bias {} is not supported; supported: \"none\"", json["bias"])));
        }
        let start = json["init_lora_weights"].as_str().unwrap_or("");
        if ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|s| start.starts_with(s)) {
            return Err(at(format!(
                "init_lora_weights \"{start}\" changes the base, too: convert it to a plain LoRA first \
                 (path_initial_model_for_weight_conversion in PEFT's save_pretrained)"
            )));
        }
        let number = |key: &str| {
            let value = json[key].as_f64().filter(|n| n.is_finite());
            value.ok_or_else(|| at(format!("{key} is {}, and no number", json[key])))
        };
        let pattern = |key: &str| -> Result<Vec<(String, f64)>> {
            let Some(map) = json[key].as_object() else { return Ok(Vec::new()) };
            let entry = |(name, value): (&String, &Value)| {
                // As PEFT reads them these are regular expressions; a path is one that means itself.
                let path = name.chars().all(|c| c.is_alphanumeric() || "._".contains(c));
                let number = value.as_f64().filter(|n| n.is_finite() && path);
                let wrong = || {
                    at(format!(
                        "{key} {name:?}: {value} is not supported; supported are names of modules with a number"
                    ))
                };
                Ok((name.clone(), number.ok_or_else(wrong)?))
            };
            map.iter().map(entry).collect()
        };
        Ok(Config {
            path: path.into(),
            base_name: json["base_model_name_or_path"].as_str().map(str::to_string),
            rank: whole(number("r")?)
                .ok_or_else(|| at(format!("r {}", out_of_range(&json["r"]))))?,
            alpha: number("lora_alpha")?,
            ranks: pattern("rank_pattern")?,
            alphas: pattern("alpha_pattern")?,
            root: json["use_rslora"].as_bool().unwrap_or(false),
        })
    }

    pub(super) fn rank(&self, module: &str) -> Result<usize> {
        let Some(own) = matching(&self.ranks, module) else { return Ok(self.rank) };
        let wrong = || format!("the rank of {module} {}", out_of_range(&json!(own)));
        whole(own).ok_or_else(|| LoadError::new(&self.path, wrong()))
    }

    pub(super) fn scale(&self, module: &str) -> Result<f32> {
        let alpha = matching(&self.alphas, module).unwrap_or(self.alpha);
        let rank = self.rank(module)? as f64;
        let scale = (alpha / if self.root { rank.sqrt() } else { rank }) as f32;
        match scale.is_finite() {
            true => Ok(scale),
            false => Err(LoadError::new(&self.path, format!("lora_alpha {alpha} is out of range"))),
        }
    }
}

fn whole(rank: f64) -> Option<usize> {
    (rank.fract() == 0.0 && rank >= 1.0 && rank <= MAX_RANK as f64).then_some(rank as usize)
}

fn out_of_range(value: &Value) -> String {
    format!("is {value}; it must be a whole number in 1…{MAX_RANK}")
}

/// The number of the first name that is the module or its end, as PEFT matches them.
fn matching(pattern: &[(String, f64)], module: &str) -> Option<f64> {
    let hit = |name: &str| {
        module.strip_suffix(name).is_some_and(|start| start.is_empty() || start.ends_with('.'))
    };
    pattern.iter().find(|(name, _)| hit(name)).map(|(_, number)| *number)
}
