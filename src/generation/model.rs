//! A model ready to generate: engine, tokenizer and what to call it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::chat_template::ChatTemplate;
use crate::model::config::ModelConfig;
use crate::model::engine::{Engine, Precision};
use crate::model::estimate;
use crate::model::groups::{Part, types_by_part};
use crate::model::peft::{self, Adapter, AdapterInfo};
use crate::model::quantize::Plan;
use crate::model::split::SplitName;
use crate::model::weights::{LoadError, Weights};
use crate::tokenizer::Tokenizer;

/// The default model, part of the program.
static BASE: &[u8] = include_bytes!("../../models/base/model.gguf");

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ModelSource {
    /// The model inside the program.
    #[default]
    Embedded,
    /// A GGUF file, a Hugging Face directory, or the folder of a PEFT adapter.
    Path(PathBuf),
}

impl ModelSource {
    /// Bytes of the model inside the program.
    pub fn embedded_size() -> u64 {
        BASE.len() as u64
    }

    /// The path, or a stand-in for it in messages.
    fn path(&self) -> &Path {
        match self {
            ModelSource::Embedded => Path::new("(embedded model)"),
            ModelSource::Path(path) => path,
        }
    }

    /// Opens the weights. A folder with an adapter of PEFT is opened as its base with the adapter merged in:
    /// the embedded model if the adapter was trained on that, else the model that it names, from here or
    /// beside the adapter.
    ///
    /// # Errors
    /// No model, a broken one, or an adapter whose base is not there or is another.
    pub fn weights(&self) -> Result<Weights, LoadError> {
        match self {
            ModelSource::Embedded => Weights::embedded(BASE, self.path()),
            ModelSource::Path(path) if path.join(peft::CONFIG).exists() => adapted(path),
            ModelSource::Path(path) => Weights::open(path),
        }
    }
}

/// What adapters that were trained on the embedded model call it.
pub const EMBEDDED_NAME: &str = "nestling-base";

/// The base of an adapter with the adapter in it.
fn adapted(folder: &Path) -> Result<Weights, LoadError> {
    let info = AdapterInfo::read(folder)?;
    let name = info.base_name.as_deref().unwrap_or_default();
    let embedded = ModelSource::Embedded.weights()?;
    let is_embedded = match &info.fingerprint {
        Some(fingerprint) => embedded.fingerprint() == *fingerprint,
        None => name == EMBEDDED_NAME,
    };
    let places = [PathBuf::from(name), folder.join(name)];
    let found = places.iter().find(|place| !name.is_empty() && place.exists());
    let weights = match found {
        _ if is_embedded => embedded,
        Some(place) => Weights::open(place)?,
        None if name == EMBEDDED_NAME => embedded,
        None => {
            return Err(LoadError::new(
                folder,
                format!(
                    "is an adapter for the model {name:?}, which is not there; write the path of that model \
                     into base_model_name_or_path of its {}",
                    peft::CONFIG
                ),
            ));
        }
    };
    let adapter = Adapter::read(folder, &weights.config)?;
    weights.with_adapter(adapter, 1.0)
}

/// Longest context used, whatever the model allows: a longer prompt costs more than it gives.
pub const MAX_CONTEXT: usize = 2048;

/// A loaded model.
pub struct Model {
    /// The network.
    pub engine: Engine,
    /// Its vocabulary.
    pub tokenizer: Arc<Tokenizer>,
    /// A short name for people.
    pub name: String,
    /// Bytes of the weight files.
    pub file_size: u64,
    /// The types in which the file holds each part's matrices.
    pub types: Vec<(Part, String)>,
    /// How talks are put to it, if it was trained to talk; or why that cannot be read.
    pub chat_template: Result<Option<ChatTemplate>, String>,
}

impl Model {
    /// Loads a model and runs one token through it, which packs the weights for the fast kernels.
    pub fn load(source: &ModelSource, precision: Precision) -> Result<Model, LoadError> {
        let weights = source.weights()?;
        let name = match source {
            ModelSource::Embedded => "base".into(),
            ModelSource::Path(path) => name_of(path),
        };
        Model::of(&weights, precision, name)
    }

    /// The model of opened weights.
    ///
    /// # Errors
    /// It does not fit into memory, or is broken.
    pub fn of(weights: &Weights, precision: Precision, name: String) -> Result<Model, LoadError> {
        let stored = |name: &str| weights.stored_type(name);
        let held = |name: &str| match precision {
            Precision::Quantized => weights.held_type(name),
            Precision::Float => estimate::FLOAT,
        };
        estimate::check(&weights.config, MAX_CONTEXT, held).map_err(|e| weights.error(e))?;
        let engine = Engine::load(weights, precision, MAX_CONTEXT)?;
        let types = types_by_part(&weights.config, stored);
        Model::new(weights, engine, types, name)
    }

    /// The model that the file of a plan would hold, without the file; `file_size` is that of the source.
    pub fn planned(weights: &Weights, plan: &Plan, name: &str) -> Result<Model, LoadError> {
        let engine = Engine::planned(weights, plan, MAX_CONTEXT)?;
        Model::new(weights, engine, plan.types(&weights.config), name.into())
    }

    fn new(
        weights: &Weights,
        engine: Engine,
        types: Vec<(Part, String)>,
        name: String,
    ) -> Result<Model, LoadError> {
        let tokenizer = Arc::new(weights.tokenizer()?);
        let mut cache = engine.new_cache();
        // Two rows reach the kernels of prefill, one those of decoding.
        for tokens in [&[0, 0][..], &[0]] {
            engine.forward(&mut cache, tokens, 1).map_err(|e| weights.error(e))?;
        }
        let chat_template = weights.chat_template().map_err(|error| error.to_string());
        Ok(Model { engine, tokenizer, name, file_size: weights.file_size, types, chat_template })
    }

    /// The shape of the network.
    pub fn config(&self) -> &ModelConfig {
        self.engine.config()
    }
}

fn name_of(path: &Path) -> String {
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let part = SplitName::of(path).map(|part| part.stem.to_string());
    part.unwrap_or_else(|| stem.unwrap_or(path.as_os_str()).to_string_lossy().into_owned())
}
