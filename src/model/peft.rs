//! Adapters in files of Hugging Face PEFT: a folder with adapter_config.json and adapter_model.safetensors.
//! What would be computed in another way than plain LoRA is refused, by name.

mod config;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use serde_json::json;

use self::config::Config;
use super::config::ModelConfig;
use super::family::Family;
use super::lora;
use super::parameters::LowRank;
use super::weights::{LoadError, Weights};
use crate::files;

/// The file that makes a folder an adapter.
pub const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";
/// The fingerprint of the base, among the metadata of the tensors' file.
const BASE: &str = "nestling_base";

type Result<T> = std::result::Result<T, LoadError>;

/// A trained adapter, apart from any base.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// What the base is called, or where it lies.
    pub base_name: Option<String>,
    /// The [`Weights::fingerprint`] of the base, where it is known: PEFT does not write it.
    pub fingerprint: Option<String>,
    /// By the name of the matrix.
    factors: BTreeMap<String, Factors>,
}

#[derive(Clone, Debug, PartialEq)]
struct Factors {
    rank: usize,
    scale: f32,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Factors {
    fn view(&self, strength: f32) -> LowRank<'_> {
        LowRank { a: &self.a, b: &self.b, rank: self.rank, scale: self.scale * strength }
    }
}

/// Which base an adapter is for.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterInfo {
    /// As [`Adapter::base_name`].
    pub base_name: Option<String>,
    /// As [`Adapter::fingerprint`].
    pub fingerprint: Option<String>,
}

impl AdapterInfo {
    /// Reads what can be known before the base is.
    ///
    /// # Errors
    /// As [`Adapter::read`], but no tensor is looked at.
    pub fn read(folder: &Path) -> Result<AdapterInfo> {
        let (config, file) = (Config::read(&folder.join(CONFIG))?, folder.join(TENSORS));
        let fingerprint = fingerprint(&file, &read_file(folder, &file)?)?;
        Ok(AdapterInfo { base_name: config.base_name, fingerprint })
    }
}

fn read_file(folder: &Path, file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|e| {
        let pickle = folder.join("adapter_model.bin").exists();
        let way = "; adapter_model.bin is not read: save it as safetensors";
        LoadError::new(file, format!("{e}{}", if pickle { way } else { "" }))
    })
}

fn broken(file: &Path, error: safetensors::SafeTensorError) -> LoadError {
    LoadError::new(file, format!("no whole safetensors file: {error}; copy it again"))
}

fn fingerprint(file: &Path, bytes: &[u8]) -> Result<Option<String>> {
    let header = safetensors::SafeTensors::read_metadata(bytes).map_err(|e| broken(file, e))?;
    Ok(header.1.metadata().as_ref().and_then(|m| m.get(BASE)).cloned())
}

impl Adapter {
    /// The factors of a run: A and B in turn with the names of [`lora::Method::tensors`], all with that scale.
    pub fn new(tensors: &[(String, Vec<usize>, &[f32])], scale: f32) -> Adapter {
        let factors = tensors.chunks_exact(2).filter_map(|pair| {
            let module = pair[0].0.strip_suffix(".lora_A.weight")?;
            let (a, b) = (pair[0].2.to_vec(), pair[1].2.to_vec());
            Some((format!("{module}.weight"), Factors { rank: pair[0].1[0], scale, a, b }))
        });
        Adapter { base_name: None, fingerprint: None, factors: factors.collect() }
    }

    /// Reads the folder of an adapter for a model of that shape.
    ///
    /// # Errors
    /// A file that is missing or broken, a kind of adapter that is no plain LoRA, a tensor that this model
    /// does not have or has in another shape. The text names file and tensor.
    pub fn read(folder: &Path, model: &ModelConfig) -> Result<Adapter> {
        let path = folder.join(CONFIG);
        let config = Config::read(&path)?;
        if !model.model_type.traits().gated {
            // Their checkpoints have other modules than ours.
            let known = Family::list(|row| row.gated.then_some(row.name));
            let name = model.model_type.name();
            let reason = format!(
                "adapters for {name} models are not read; supported: {known}; merge it into its base"
            );
            return Err(LoadError::new(folder, reason));
        }
        let file = folder.join(TENSORS);
        let bytes = read_file(folder, &file)?;
        let at = |reason: String| LoadError::new(&file, reason);
        let fingerprint = fingerprint(&file, &bytes)?;
        let tensors =
            safetensors::SafeTensors::deserialize(&bytes).map_err(|e| broken(&file, e))?;
        let shapes: BTreeMap<String, Vec<usize>> = model.tensors().into_iter().collect();
        let mut pairs: BTreeMap<String, [Option<Vec<f32>>; 2]> = BTreeMap::new();
        let mut list: Vec<_> = tensors.iter().collect();
        list.sort_by_key(|(name, _)| *name);
        for (name, view) in list {
            let found = factor(name).and_then(|(module, which)| {
                Some((module, which, shapes.get(&format!("{module}.weight"))?))
            });
            let Some((module, which, [outputs, inputs])) = found
                .and_then(|(m, w, shape)| Some((m, w, <[usize; 2]>::try_from(&shape[..]).ok()?)))
            else {
                return Err(at(format!(
                    "tensor {name} is of no use here: an adapter for this {} model has lora_A and lora_B of \
                     {} in its {} layers",
                    model.model_type.name(),
                    lora::LINEAR.map(|m| m.rsplit('.').next().unwrap_or(m)).join(", "),
                    model.num_hidden_layers,
                )));
            };
            let rank = config.rank(module)?;
            let wanted = if which == 0 { [rank, inputs] } else { [outputs, rank] };
            if view.shape() != wanted {
                let text = "the shape of the model and the rank say";
                return Err(at(format!("tensor {name} is {:?}; {text} {wanted:?}", view.shape())));
            }
            let values = floats(&view).map_err(|reason| at(format!("tensor {name} {reason}")))?;
            pairs.entry(module.to_string()).or_default()[which] = Some(values);
        }
        if pairs.is_empty() {
            return Err(at("holds no tensor".into()));
        }
        let mut factors = BTreeMap::new();
        for (module, [a, b]) in pairs {
            let (Some(a), Some(b)) = (a, b) else {
                return Err(at(format!("{module} has only one of lora_A and lora_B")));
            };
            let (rank, scale) = (config.rank(&module)?, config.scale(&module)?);
            factors.insert(format!("{module}.weight"), Factors { rank, scale, a, b });
        }
        Ok(Adapter { base_name: config.base_name, fingerprint, factors })
    }

    /// Writes the two files; PEFT reads them over the base that `self.base_name` names.
    ///
    /// # Errors
    /// A folder that cannot be written. Each file is whole or not there.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", folder.display());
        std::fs::create_dir_all(folder).with_context(cannot)?;
        let alpha = |f: &Factors| match f.scale * f.rank as f32 {
            whole if whole.fract() == 0.0 => json!(whole as i64),
            alpha => json!(alpha),
        };
        let first = self.factors.values().next().context("an adapter without a factor")?;
        let (r, lora_alpha) = (first.rank, alpha(first));
        let (mut ranks, mut alphas) = (serde_json::Map::new(), serde_json::Map::new());
        let mut targets: Vec<&str> = Vec::new();
        let mut tensors = Vec::new();
        for (name, factors) in &self.factors {
            let module = lora::module(name).context("a matrix that gets no adapter")?;
            if factors.rank != r {
                ranks.insert(module.into(), factors.rank.into());
            }
            if alpha(factors) != lora_alpha {
                alphas.insert(module.into(), alpha(factors));
            }
            let target = module.rsplit('.').next().unwrap_or(module);
            if !targets.contains(&target) {
                targets.push(target);
            }
            let (inputs, outputs) =
                (factors.a.len() / factors.rank, factors.b.len() / factors.rank);
            let named = |which| format!("{PREFIX}{module}.lora_{which}.weight");
            tensors.push((named("A"), vec![factors.rank, inputs], &factors.a[..]));
            tensors.push((named("B"), vec![outputs, factors.rank], &factors.b[..]));
        }
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base_name,
            "revision": null,
            "inference_mode": true,
            "r": r,
            "lora_alpha": lora_alpha,
            "lora_dropout": 0.0,
            "target_modules": targets,
            "rank_pattern": ranks,
            "alpha_pattern": alphas,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_rslora": false,
            "use_dora": false,
            "init_lora_weights": true,
            "modules_to_save": null,
            "layers_to_transform": null,
            "layers_pattern": null,
        });
        let metadata: Vec<(&str, &str)> =
            self.fingerprint.iter().map(|fingerprint| (BASE, &fingerprint[..])).collect();
        super::safetensors::write_with(&folder.join(TENSORS), &tensors, &metadata)?;
        files::write(&folder.join(CONFIG), &serde_json::to_vec_pretty(&config)?)
    }

    /// Whether these are factors for a model of that shape.
    fn fits(&self, model: &ModelConfig) -> bool {
        let shapes: BTreeMap<String, Vec<usize>> = model.tensors().into_iter().collect();
        self.factors.iter().all(|(name, f)| {
            shapes.get(name).is_some_and(|shape| {
                shape[..] == [f.b.len() / f.rank.max(1), f.a.len() / f.rank.max(1)]
            })
        })
    }

    /// From now on it counts so many times what it did.
    pub fn weaken(&mut self, strength: f32) {
        self.factors.values_mut().for_each(|factors| factors.scale *= strength);
    }

    /// Every number of it, for a fingerprint.
    pub(super) fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        let parts = self.factors.iter().flat_map(|(name, f)| {
            let scale = bytemuck::bytes_of(&f.scale);
            [name.as_bytes(), scale, bytemuck::cast_slice(&f.a), bytemuck::cast_slice(&f.b)]
        });
        parts.collect::<Vec<_>>().into_iter()
    }

    /// W + strength · scale · B·A in place, for the matrix of that name; others stay as they are.
    pub fn merge(&self, name: &str, values: &mut [f32], strength: f32) {
        if let Some(factors) = self.factors.get(name) {
            lora::merge(values, factors.view(strength));
        }
    }
}

impl Weights {
    /// These weights with an adapter merged in, W + strength · scale · B·A, wherever they are read from now
    /// on: the engine runs them, and what writes a model writes them merged. Matrices with an adapter are
    /// served in Q8_0, whatever block type the file has. `strength` lies in 0…1; 0 is the base.
    ///
    /// # Errors
    /// An adapter that was made for other weights.
    pub fn with_adapter(mut self, adapter: Adapter, strength: f32) -> Result<Weights> {
        if let Some(wanted) = &adapter.fingerprint {
            let own = self.fingerprint();
            if own != *wanted {
                return Err(self.error(format!(
                    "the adapter was trained on other weights (fingerprint {wanted}) than these ({own}); \
                     give the model that it was trained on, {}",
                    adapter.base_name.as_deref().unwrap_or("whose name it does not tell"),
                )));
            }
        }
        if !adapter.fits(&self.config) {
            return Err(self.error("the adapter is for a model of another shape"));
        }
        if !(0.0..=1.0).contains(&strength) {
            return Err(self.error(format!("an adapter's strength of {strength} is not in 0…1")));
        }
        if self.adapter.is_some() {
            return Err(self.error("has an adapter already"));
        }
        self.adapter = Some((adapter, strength));
        Ok(self)
    }

    /// What is added to the matrix of that name.
    pub(super) fn low_rank(&self, name: &str) -> Option<LowRank<'_>> {
        let (adapter, strength) = self.adapter.as_ref().filter(|(_, strength)| *strength > 0.0)?;
        adapter.factors.get(name).map(|factors| factors.view(*strength))
    }
}

/// Module and which factor (0 for A) a tensor of an adapter is.
fn factor(name: &str) -> Option<(&str, usize)> {
    let name = name.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
    let a = name.strip_suffix(".lora_A").map(|module| (module, 0));
    a.or_else(|| name.strip_suffix(".lora_B").map(|module| (module, 1)))
        .filter(|(module, _)| lora::LINEAR.iter().any(|own| module.ends_with(own)))
}

fn floats(view: &safetensors::tensor::TensorView<'_>) -> std::result::Result<Vec<f32>, String> {
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        other => return Err(format!("is {other:?}; supported: F32, F16, BF16")),
    };
    let values = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)
        .and_then(|t| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>())
        .map_err(|e| format!("cannot be read: {e}"))?;
    match values.iter().all(|x| x.is_finite()) {
        true => Ok(values),
        false => Err("holds numbers that are not finite".into()),
    }
}
