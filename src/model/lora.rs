//! What of a model is trained: all of it, or low-rank factors beside its frozen matrices (LoRA, Hu et al.
//! 2021): y = x·Wᵀ + scale·(x·Aᵀ)·Bᵀ with A (rank, in) and B (out, rank). Names are those of PEFT.

use candle_core::quantized::QTensor;

use super::config::ModelConfig;
use super::parameters::{LowRank, Parameters, Weight};
use super::weights::{LoadError, Weights};

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Method {
    /// Every weight.
    #[default]
    Full,
    /// The two factors of an adapter for each matrix of the layers; the weights are frozen.
    Lora {
        /// Rank of the factors.
        rank: usize,
        /// The product of the factors counts alpha / rank.
        alpha: f32,
    },
}

/// The matrices of a layer that get an adapter, in the order of the checkpoint.
pub(super) const LINEAR: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Whether a tensor of [`ModelConfig::tensors`] gets an adapter.
pub fn is_linear(name: &str) -> bool {
    module(name).is_some()
}

/// The names of the linear layers that get an adapter, as PEFT takes them.
pub fn module_names() -> Vec<&'static str> {
    LINEAR.iter().map(|path| path.rsplit('.').next().unwrap_or(path)).collect()
}

/// The path of the linear layer whose matrix this is, without `.weight`.
pub(super) fn module(name: &str) -> Option<&str> {
    let module = name.strip_suffix(".weight").filter(|m| m.starts_with("model.layers."))?;
    LINEAR.iter().any(|own| module.ends_with(own)).then_some(module)
}

impl Method {
    /// Whether every weight is trained.
    pub fn is_full(&self) -> bool {
        *self == Method::Full
    }

    /// The rank of the adapters.
    pub fn rank(self) -> Option<usize> {
        match self {
            Method::Full => None,
            Method::Lora { rank, .. } => Some(rank),
        }
    }

    /// What the product of the factors counts.
    pub fn scale(self) -> f32 {
        match self {
            Method::Full => 1.0,
            Method::Lora { rank, alpha } => alpha / rank as f32,
        }
    }

    /// Numbers that make no adapter are named.
    pub fn check(self) -> Result<(), String> {
        let Method::Lora { rank, alpha } = self else { return Ok(()) };
        if !(1..=MAX_RANK).contains(&rank) {
            return Err(format!("a LoRA rank of {rank} does not lie in 1…{MAX_RANK}"));
        }
        if !(alpha > 0.0 && alpha.is_finite()) {
            return Err(format!("a LoRA alpha of {alpha} is not more than 0"));
        }
        Ok(())
    }

    /// Every tensor that is trained, with its shape: those of the model, or A and B of each matrix in turn.
    pub fn tensors(self, config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
        let Method::Lora { rank, .. } = self else { return config.tensors() };
        let factors = |(name, shape): (String, Vec<usize>)| {
            let (module, [outputs, inputs]) = (module(&name)?, shape[..].try_into().ok()?);
            Some([
                (format!("{module}.lora_A.weight"), vec![rank, inputs]),
                (format!("{module}.lora_B.weight"), vec![outputs, rank]),
            ])
        };
        config.tensors().into_iter().filter_map(factors).flatten().collect()
    }

    /// The weights for the passes: what is trained, in the order of [`Method::tensors`], beside what is
    /// frozen.
    ///
    /// # Panics
    /// An adapter without a base.
    pub fn parameters<'a>(self, base: Option<&'a Base>, trained: &[&'a [f32]]) -> Parameters<'a> {
        let Method::Lora { rank, .. } = self else { return Parameters::dense(trained) };
        let base = base.expect("an adapter has a base");
        let (scale, mut factors) = (self.scale(), trained.chunks_exact(2));
        let adapters = base.linear.iter().map(|linear| {
            let pair = if *linear { factors.next() } else { None };
            pair.map(|pair| LowRank { a: pair[0], b: pair[1], rank, scale })
        });
        let weights = base.tensors.iter().map(Stored::view).collect();
        Parameters { weights, adapters: adapters.collect() }
    }
}

/// No adapter needs more.
pub(super) const MAX_RANK: usize = 4096;

enum Stored {
    Dense(Vec<f32>),
    Quantized(QTensor),
}

impl Stored {
    fn view(&self) -> Weight<'_> {
        match self {
            Stored::Dense(values) => Weight::Dense(values),
            Stored::Quantized(q) => Weight::Quantized(q),
        }
    }
}

/// The frozen weights of a model, as its file holds them: block types stay what they are, everything else
/// is f32. Several runs can share one.
pub struct Base {
    tensors: Vec<Stored>,
    /// Which of them get an adapter.
    linear: Vec<bool>,
    fingerprint: String,
}

impl Base {
    /// Reads all weights.
    ///
    /// # Errors
    /// A tensor of a type that is not supported.
    pub fn load(weights: &Weights) -> Result<Base, LoadError> {
        Base::load_where(weights, |name| weights.is_quantized(name))
    }

    /// The same with float matrices in Q8_0, as the engine serves them: a quarter of the memory.
    pub fn load_small(weights: &Weights) -> Result<Base, LoadError> {
        Base::load_where(weights, |_| true)
    }

    fn load_where(weights: &Weights, in_blocks: impl Fn(&str) -> bool) -> Result<Base, LoadError> {
        let load = |(name, shape): &(String, Vec<usize>)| {
            Ok(match shape.len() == 2 && in_blocks(name) {
                true => match weights.quantized(name)? {
                    Some(quantized) => Stored::Quantized(quantized),
                    None => Stored::Dense(weights.vector(name)?),
                },
                false => Stored::Dense(weights.vector(name)?),
            })
        };
        let tensors = weights.config.tensors();
        Ok(Base {
            linear: tensors.iter().map(|(name, _)| is_linear(name)).collect(),
            fingerprint: weights.fingerprint(),
            tensors: tensors.iter().map(load).collect::<Result<_, LoadError>>()?,
        })
    }

    /// Bytes that [`Base::load`] takes.
    pub fn bytes_of(weights: &Weights) -> usize {
        let bytes = |(name, shape): (String, Vec<usize>)| match weights.is_quantized(&name) {
            true => weights.stored_bytes(&name),
            false => 4 * shape.iter().product::<usize>(),
        };
        weights.config.tensors().into_iter().map(bytes).sum()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let bytes = |stored: &Stored| match stored {
            Stored::Dense(values) => 4 * values.len(),
            Stored::Quantized(q) => q.storage_size_in_bytes(),
        };
        self.tensors.iter().map(bytes).sum()
    }

    /// Tells these weights from all others; see [`Weights::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The tensor at that place of [`ModelConfig::tensors`], as floats.
    pub fn tensor(&self, at: usize) -> Vec<f32> {
        self.tensors[at].view().to_vec()
    }
}

/// w += scale · B·A, with w (out, in).
pub fn merge(w: &mut [f32], adapter: LowRank<'_>) {
    let LowRank { a, b, rank, scale } = adapter;
    let (outputs, inputs) = (b.len() / rank, a.len() / rank);
    let dims = (outputs, inputs, rank);
    super::ops::gemm(
        dims,
        (w, inputs, 1),
        (b, rank, 1),
        (a, inputs, 1),
        (scale, true),
        super::ops::ALL_CORES,
    );
}
