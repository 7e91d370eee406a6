//! The weights of a model as the passes see them: each tensor as floats or in a block type, and beside a
//! matrix perhaps the two factors of an adapter. Nothing is copied; nothing here owns a weight.

use candle_core::quantized::QTensor;
use candle_core::{CpuStorage, Device, Storage, Tensor};

/// One tensor.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// As floats.
    Dense(&'a [f32]),
    /// In a block type. It is turned into floats wherever it is used and never kept so: in the forward
    /// pass, in the backward pass and, with recomputation, once more, by each core for each sequence. Beside
    /// a product with some hundred rows that is little work.
    Quantized(&'a QTensor),
}

/// Rows of a quantized table that are floats at a time.
const BLOCK_ROWS: usize = 1024;

impl<'a> Weight<'a> {
    /// Its elements.
    pub fn len(&self) -> usize {
        match self {
            Weight::Dense(values) => values.len(),
            Weight::Quantized(q) => q.shape().elem_count(),
        }
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `f` with all values.
    pub(super) fn read<R>(&self, f: impl FnOnce(&[f32]) -> R) -> R {
        match self {
            Weight::Dense(values) => f(values),
            Weight::Quantized(q) => {
                let dense = q.dequantize(&Device::Cpu).expect("its blocks were checked on loading");
                read(&dense, f)
            }
        }
    }

    /// Its values in a vector.
    pub fn to_vec(&self) -> Vec<f32> {
        self.read(<[f32]>::to_vec)
    }

    /// The values of a tensor that is always kept as floats: norms and biases.
    pub(super) fn values(&self) -> &'a [f32] {
        match self {
            Weight::Dense(values) => values,
            Weight::Quantized(_) => unreachable!("vectors are floats"),
        }
    }

    /// Calls `f(first row, rows)` until all rows of that width went by: floats at once, blocks in parts.
    pub(super) fn each_block(&self, width: usize, mut f: impl FnMut(usize, &[f32])) {
        match self {
            Weight::Dense(values) => f(0, values),
            Weight::Quantized(q) => {
                let rows = self.len() / width;
                for first in (0..rows).step_by(BLOCK_ROWS) {
                    let ids: Vec<u32> =
                        (first..rows.min(first + BLOCK_ROWS)).map(|row| row as u32).collect();
                    read(&rows_of(q, ids), |rows| f(first, rows));
                }
            }
        }
    }

    /// Writes the rows of these numbers into `out`, one after the other.
    pub(super) fn gather(&self, ids: &[u32], width: usize, out: &mut [f32]) {
        match self {
            Weight::Dense(values) => {
                for (out, &id) in out.chunks_exact_mut(width).zip(ids) {
                    out.copy_from_slice(&values[id as usize * width..][..width]);
                }
            }
            Weight::Quantized(q) => read(&rows_of(q, ids.to_vec()), |rows| {
                out[..rows.len()].copy_from_slice(rows);
            }),
        }
    }
}

fn rows_of(table: &QTensor, ids: Vec<u32>) -> Tensor {
    let ids = Tensor::new(ids, &Device::Cpu).and_then(|ids| table.embedding(&ids));
    ids.expect("the ids lie within the table")
}

fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> R {
    match &*tensor.storage_and_layout().0 {
        Storage::Cpu(CpuStorage::F32(values)) => f(values),
        _ => unreachable!("weights are f32 on the CPU"),
    }
}

/// What an adapter adds to a matrix W (out, in): scale · B·A (Hu et al. 2021).
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// A (rank, in).
    pub a: &'a [f32],
    /// B (out, rank).
    pub b: &'a [f32],
    /// Its rank.
    pub rank: usize,
    /// What the product counts.
    pub scale: f32,
}

/// All weights in the order of [`super::config::ModelConfig::tensors`].
pub struct Parameters<'a> {
    pub(super) weights: Vec<Weight<'a>>,
    /// By the place of the matrix; empty without an adapter.
    pub(super) adapters: Vec<Option<LowRank<'a>>>,
}

impl<'a> Parameters<'a> {
    /// Floats alone.
    pub fn dense(weights: &[&'a [f32]]) -> Parameters<'a> {
        let weights = weights.iter().map(|values| Weight::Dense(values)).collect();
        Parameters { weights, adapters: Vec::new() }
    }

    /// The tensor at that place.
    pub fn weight(&self, at: usize) -> Weight<'a> {
        self.weights[at]
    }

    /// What is added to it.
    pub fn low_rank(&self, at: usize) -> Option<LowRank<'a>> {
        self.adapters.get(at).copied().flatten()
    }

    /// Whether the weights themselves are frozen.
    pub fn is_adapted(&self) -> bool {
        !self.adapters.is_empty()
    }

    /// The values of a norm or bias.
    pub(super) fn vector(&self, at: usize) -> &'a [f32] {
        self.weights[at].values()
    }
}
