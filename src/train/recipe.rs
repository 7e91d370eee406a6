//! What a person can decide about a run, in one file: presets by size, a TOML file over them, the
//! command line over that. Variation is data; the effective recipe is written beside the model.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::model::config::ModelConfig;

use super::autotune::Rung;
use super::dataset::ExampleConfig;
use super::prepare::PrepareOptions;
use super::trainer::TrainConfig;

/// Everything that decides what a run makes of a corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the shape, for reports.
    pub size: String,
    /// The shape.
    pub model: Shape,
    /// Steps, batch, schedule, optimizer.
    pub train: TrainConfig,
    /// How documents become examples.
    pub examples: ExampleConfig,
    /// What of the corpus is taken.
    pub prepare: PrepareOptions,
}

/// A qwen3-shaped network with tied embeddings; the names are those of `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Shape {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub rope_theta: f64,
}

impl Recipe {
    /// The preset of a rung with the changes over it, one table after the other.
    ///
    /// # Errors
    /// A key that no recipe has, or a value of the wrong kind; both are named.
    pub fn new(rung: &Rung, changes: &[&toml::Table]) -> Result<Recipe> {
        let mut preset = Recipe {
            size: rung.name.into(),
            model: Shape::of(&rung.model()),
            train: TrainConfig { batch: rung.batch, ..TrainConfig::default() },
            examples: ExampleConfig { sequence: rung.sequence, ..ExampleConfig::default() },
            prepare: PrepareOptions { any_licence: false, no_held_out: false },
        };
        preset.train.optimizer.learning_rate = rung.learning_rate;
        let mut table = toml::Table::try_from(&preset).context("the preset is no table")?;
        changes.iter().for_each(|changes| merge(&mut table, changes));
        let recipe: Recipe = table.try_into().context("the recipe")?;
        recipe.check().context("the recipe")?;
        Ok(recipe)
    }

    /// Numbers that no run survives are named here, not where they do harm.
    fn check(&self) -> Result<()> {
        self.train.method.check().map_err(anyhow::Error::msg).context("train.method")?;
        let (train, examples, optimizer) = (&self.train, &self.examples, &self.train.optimizer);
        let (characters, lines) = examples.middles;
        let shares = [
            ("examples.fim", examples.fim),
            ("examples.psm", examples.psm),
            ("examples.middles", characters),
            ("examples.middles", lines),
            ("examples.middles", characters + lines),
            ("examples.snippets", examples.snippets),
            ("examples.edits", examples.edits),
            ("examples.fixes", examples.fixes),
            ("examples.tests", examples.tests),
            ("train.optimizer.weight_decay", optimizer.weight_decay),
            ("train.optimizer.betas", optimizer.betas.0 as f64),
            ("train.optimizer.betas", optimizer.betas.1 as f64),
        ];
        for (name, share) in shares {
            ensure!((0.0..=1.0).contains(&share), "{name} is {share}; it must lie in 0…1");
        }
        ensure!(
            optimizer.betas.0.max(optimizer.betas.1) < 1.0,
            "train.optimizer.betas must be under 1"
        );
        // A decay of 1 would leave no step in which the learning rate is at its peak.
        ensure!((0.0..=0.9).contains(&train.decay), "train.decay is {}; at most 0.9", train.decay);
        let positive = [
            ("train.batch", train.batch as f64, 65_536.0),
            ("train.evaluate_every", train.evaluate_every as f64, f64::MAX),
            ("train.patience", train.patience as f64, f64::MAX),
            ("train.optimizer.learning_rate", optimizer.learning_rate, 1.0),
            ("train.optimizer.clip", optimizer.clip, f64::MAX),
            ("examples.sequence", examples.sequence as f64, 65_536.0),
        ];
        for (name, value, limit) in positive {
            let fits = value > 0.0 && value <= limit;
            ensure!(fits, "{name} is {value}; it must be more than 0 and at most {limit:e}");
        }
        let weights =
            examples.mix.iter().find(|(_, weight)| !(**weight >= 0.0 && weight.is_finite()));
        if let Some((language, weight)) = weights {
            bail!("examples.mix.{language} is {weight}; weights are 0 or more");
        }
        Ok(())
    }

    /// The model, once the tokenizer's size is known.
    pub fn model(&self, vocab_size: usize) -> Result<ModelConfig> {
        let rung = Rung::by_name("nano").context("the ladder has a nano")?;
        let shape = &self.model;
        let model = ModelConfig {
            vocab_size,
            hidden_size: shape.hidden_size,
            intermediate_size: shape.intermediate_size,
            num_hidden_layers: shape.num_hidden_layers,
            num_attention_heads: shape.num_attention_heads,
            num_key_value_heads: shape.num_key_value_heads,
            head_dim: shape.head_dim,
            rope_theta: shape.rope_theta,
            max_position_embeddings: self.examples.sequence,
            ..rung.model()
        };
        Ok(model.validated()?)
    }

    /// As TOML, for the next one who wants the same.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}

impl Shape {
    /// The shape of a model.
    pub fn of(model: &ModelConfig) -> Shape {
        Shape {
            vocab_size: model.vocab_size,
            hidden_size: model.hidden_size,
            intermediate_size: model.intermediate_size,
            num_hidden_layers: model.num_hidden_layers,
            num_attention_heads: model.num_attention_heads,
            num_key_value_heads: model.num_key_value_heads,
            head_dim: model.head_dim,
            rope_theta: model.rope_theta,
        }
    }
}

/// `changes` over `table`, tables into tables.
fn merge(table: &mut toml::Table, changes: &toml::Table) {
    for (key, value) in changes {
        match (table.get_mut(key), value) {
            // A mix is replaced as a whole: its languages are no fields.
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) if key != "mix" => {
                merge(old, new);
            }
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() {
        let rung = Rung::by_name("nano").unwrap();
        let plain = Recipe::new(rung, &[]).unwrap();
        let text =
            "[train]\nbatch = 6\n[train.optimizer]\nmuon = false\n[examples.mix]\nrust = 2.0\n";
        let changed = Recipe::new(rung, &[&toml::from_str(text).unwrap()]).unwrap();
        assert_eq!(changed.train.batch, 6);
        assert!(!changed.train.optimizer.muon);
        assert_eq!(changed.examples.mix["rust"], 2.0);
        assert_eq!(changed.train.optimizer.learning_rate, plain.train.optimizer.learning_rate);
        assert_eq!(changed.model, plain.model);
        let again: toml::Table = toml::from_str(&changed.to_toml().unwrap()).unwrap();
        assert_eq!(Recipe::new(rung, &[&again]).unwrap(), changed);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let rung = Rung::by_name("tiny").unwrap();
        let wrong = toml::from_str("[train]\nbatches = 6\n").unwrap();
        let error = format!("{:#}", Recipe::new(rung, &[&wrong]).unwrap_err());
        assert!(error.contains("batches"), "{error}");
    }

    #[test]
    fn a_number_that_no_run_survives_is_named() {
        let rung = Rung::by_name("tiny").unwrap();
        for (text, name) in [
            ("[train]\nevaluate_every = 0", "train.evaluate_every"),
            ("[train]\nbatch = 0", "train.batch"),
            ("[train]\ndecay = 1.0", "train.decay"),
            ("[train.optimizer]\nlearning_rate = nan", "learning_rate"),
            ("[examples]\nfim = 1.5", "examples.fim"),
            ("[examples]\nmiddles = [0.7, 0.7]", "examples.middles"),
            ("[examples.mix]\nrust = -1.0", "examples.mix.rust"),
        ] {
            let error = Recipe::new(rung, &[&toml::from_str(text).unwrap()]).unwrap_err();
            assert!(format!("{error:#}").contains(name), "{text}: {error:#}");
        }
    }
}
