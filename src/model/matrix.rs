//! One matrix of the network at work: in Q8_0 with our own kernels where there are some for the machine, in any block
//! type with candle's, or in f32; and the parallel regions that all loops of the engine run in.

use candle_core::quantized::QTensor;
use candle_core::utils::barrier_pool;
use candle_core::{Device, Storage, Tensor};

use super::engine::{EngineError, Precision};
#[cfg(target_arch = "x86_64")]
use super::q8_0::{self, PackedQ8};
use super::quantize::{FileType, Plan};
use super::simd::{self, vectorize};
use super::weights::{LoadError, Weights};

type Result<T> = std::result::Result<T, EngineError>;

/// One matrix (out, in).
pub(super) enum Matrix {
    #[cfg(target_arch = "x86_64")]
    Packed(PackedQ8),
    Quantized(QTensor),
    Float {
        weight: Vec<f32>,
        inputs: usize,
    },
}

impl Matrix {
    pub(super) fn load(
        weights: &Weights,
        name: &str,
        precision: Precision,
    ) -> std::result::Result<Matrix, LoadError> {
        if precision == Precision::Quantized
            && let Some(quantized) = weights.quantized(name)?
        {
            return Ok(Matrix::of(quantized));
        }
        let inputs = weights.dense(name)?.dims().last().copied().unwrap_or(0);
        Ok(Matrix::Float { weight: weights.vector(name)?, inputs })
    }

    /// As the file of that plan will hold it.
    pub(super) fn planned(
        weights: &Weights,
        name: &str,
        plan: &Plan,
    ) -> std::result::Result<Matrix, LoadError> {
        let dense = weights.dense(name)?;
        if plan.stored(name, dense.dims()) == FileType::F32 {
            let inputs = dense.dims().last().copied().unwrap_or(0);
            return Ok(Matrix::Float { weight: weights.vector(name)?, inputs });
        }
        let quantized = plan.quantize(name, &dense);
        quantized.map(Matrix::of).map_err(|e| weights.error(format!("{name}: {e}")))
    }

    /// Whether Q8_0 is computed by our own kernels here, which keep one copy of it.
    pub(super) fn has_own_kernels() -> bool {
        #[cfg(target_arch = "x86_64")]
        return q8_0::is_possible();
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }

    /// Of a matrix in a block type.
    pub(super) fn of(quantized: QTensor) -> Matrix {
        #[cfg(target_arch = "x86_64")]
        if let Some(packed) = PackedQ8::pack(&quantized) {
            return Matrix::Packed(packed);
        }
        Matrix::Quantized(quantized)
    }

    pub(super) fn outputs(&self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Matrix::Packed(packed) => packed.outputs(),
            Matrix::Quantized(q) => q.shape().dims()[0],
            Matrix::Float { weight, inputs } => weight.len() / inputs,
        }
    }

    /// y (rows, out) = x (rows, in) · Wᵀ.
    pub(super) fn forward(&self, x: &Activations) -> Result<Activations> {
        Ok(match self {
            #[cfg(target_arch = "x86_64")]
            Matrix::Packed(packed) => {
                let [y] = x.read(|x| q8_0::multiply([packed], x));
                Activations::new(y, packed.outputs())?
            }
            Matrix::Quantized(q) => Activations(x.0.apply_op1_no_bwd(q)?),
            Matrix::Float { weight, inputs } => {
                let rows = x.0.elem_count() / inputs;
                let y = x.read(|x| float_matmul(x, weight, rows, *inputs));
                Activations::new(y, self.outputs())?
            }
        })
    }
}

/// Several matrices on the same input: one quantization of the input and one parallel region where
/// the kernels allow.
pub(super) fn forward_together<const N: usize>(
    matrices: [&Matrix; N],
    x: &Activations,
) -> Result<[Activations; N]> {
    #[cfg(target_arch = "x86_64")]
    if let Some(packed) = all(matrices, |m| match m {
        Matrix::Packed(packed) => Some(packed),
        _ => None,
    }) {
        let y = x.read(|x| q8_0::multiply(packed, x)).into_iter().zip(packed);
        return collect(y.map(|(y, packed)| Activations::new(y, packed.outputs())));
    }
    if let Some(quantized) = all(matrices, |m| match m {
        Matrix::Quantized(q) => Some(q),
        _ => None,
    }) && let Some(out) = QTensor::gemv_fused_shared_lhs(&quantized, &x.0)?
    {
        return collect(out.into_iter().map(|out| Ok(Activations(out))));
    }
    collect(matrices.into_iter().map(|matrix| matrix.forward(x)))
}

/// What `of` finds in each, if it finds something in all.
fn all<'a, T, const N: usize>(
    matrices: [&'a Matrix; N],
    of: impl Fn(&'a Matrix) -> Option<&'a T>,
) -> Option<[&'a T; N]> {
    let found: Vec<&T> = matrices.into_iter().filter_map(of).collect();
    found.try_into().ok()
}

fn collect<const N: usize>(
    outputs: impl Iterator<Item = Result<Activations>>,
) -> Result<[Activations; N]> {
    let mut outputs = outputs.collect::<Result<Vec<_>>>()?.into_iter();
    Ok(std::array::from_fn(|_| outputs.next().expect("one output to each matrix")))
}

/// A candle tensor (rows, features), f32, contiguous, used as a slice between two kernels.
pub(super) struct Activations(pub(super) Tensor);

impl Activations {
    pub(super) fn new(data: Vec<f32>, features: usize) -> Result<Activations> {
        let rows = data.len() / features;
        Ok(Activations(Tensor::from_vec(data, (rows, features), &Device::Cpu)?))
    }

    pub(super) fn read<R>(&self, f: impl FnOnce(&[f32]) -> R) -> R {
        let (storage, _) = self.0.storage_and_layout();
        match &*storage {
            Storage::Cpu(candle_core::CpuStorage::F32(data)) => f(data),
            _ => unreachable!("activations are f32 on the CPU"),
        }
    }
}

/// y (rows, out) = x (rows, in) · Wᵀ in f32. One row runs over both cores by outputs, which gemm
/// does not do.
fn float_matmul(x: &[f32], weight: &[f32], rows: usize, inputs: usize) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    let mut y = vec![0f32; rows * outputs];
    if rows == 1 {
        const UNIT: usize = 64;
        for_each_chunk(&mut y, UNIT, |unit, y| {
            vectorize!(|| {
                for (i, y) in y.iter_mut().enumerate() {
                    let at = (unit * UNIT + i) * inputs;
                    *y = simd::dot(x, &weight[at..at + inputs]);
                }
            })
        });
    } else {
        super::ops::matmul_transposed(x, weight, &mut y, (rows, outputs, inputs));
    }
    y
}

/// Runs `f(index, chunk)` for every `size` elements of `data`, in parallel when there is enough to do.
pub(super) fn for_each_chunk(data: &mut [f32], size: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let chunks = data.len().div_ceil(size);
    if data.len() < 8192 {
        return data.chunks_mut(size).enumerate().for_each(|(i, chunk)| f(i, chunk));
    }
    let (start, length) = (data.as_mut_ptr() as usize, data.len());
    in_parallel(chunks, |range| {
        for i in range {
            let (from, to) = (i * size, ((i + 1) * size).min(length));
            // SAFETY: chunks are disjoint and lie inside `data`, which outlives the parallel region.
            let chunk =
                unsafe { std::slice::from_raw_parts_mut((start as *mut f32).add(from), to - from) };
            f(i, chunk);
        }
    });
}

/// Runs `f` over 0…`items` on candle's pool. A panic leaves the region only after its end: inside it
/// would poison the pool's lock, and with it every later operation of the process.
pub(super) fn in_parallel(items: usize, f: impl Fn(std::ops::Range<usize>) + Sync) {
    let panic = parking_lot::Mutex::new(None);
    barrier_pool().execute_chunked(items, |range| {
        let run = std::panic::AssertUnwindSafe(|| f(range));
        if let Err(payload) = std::panic::catch_unwind(run) {
            panic.lock().get_or_insert(payload);
        }
    });
    if let Some(payload) = panic.into_inner() {
        std::panic::resume_unwind(payload);
    }
}
