//! Fused operations with a backward pass, on the CPU, f32.
//!
//! candle's own fused norm, rotary embedding, softmax and attention have no backward pass and stop
//! gradients silently. Each operation here computes its gradients itself and is checked against
//! finite differences. Shapes: (tokens, features), row-major; tokens = batch × sequence.

mod attention;
mod cross_entropy;
mod linear;
mod norm;
mod rope;
mod swiglu;

pub use attention::{AttentionShape, attention};
pub use cross_entropy::{IGNORE, cross_entropy};
pub use linear::linear;
pub use norm::rms_norm;
pub use rope::rope;
pub use swiglu::swiglu;

use candle_core::{CpuStorage, Layout, Result, Tensor};

/// Rows handled by one task: long enough to pay for the task, short enough to balance two cores.
const ROWS: usize = 64;

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("a fused operation needs contiguous input, got {layout:?}"),
    }
}

fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(cpu) => f(slice(cpu, layout)?),
        _ => candle_core::bail!("the fused operations run on the CPU only"),
    }
}

/// A strided view for [`gemm`]: (pointer, row stride, column stride).
pub(in crate::model) type View<'a> = (&'a [f32], usize, usize);

/// dst (m, n) = β·dst + α·lhs (m, k) · rhs (k, n), all with arbitrary strides.
pub(in crate::model) fn gemm(
    (m, n, k): (usize, usize, usize),
    dst: (&mut [f32], usize, usize),
    lhs: View<'_>,
    rhs: View<'_>,
    (alpha, accumulate): (f32, bool),
    parallelism: gemm::Parallelism,
) {
    let last = |rows: usize, cols: usize, rs: usize, cs: usize| (rows - 1) * rs + (cols - 1) * cs;
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(last(m, n, dst.1, dst.2) < dst.0.len(), "gemm: destination too short");
    assert!(last(m, k, lhs.1, lhs.2) < lhs.0.len(), "gemm: left side too short");
    assert!(last(k, n, rhs.1, rhs.2) < rhs.0.len(), "gemm: right side too short");
    // SAFETY: the three assertions above keep every addressed element inside its slice.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.0.as_mut_ptr(),
            dst.2 as isize,
            dst.1 as isize,
            accumulate,
            lhs.0.as_ptr(),
            lhs.2 as isize,
            lhs.1 as isize,
            rhs.0.as_ptr(),
            rhs.2 as isize,
            rhs.1 as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

pub(in crate::model) const ALL_CORES: gemm::Parallelism = gemm::Parallelism::Rayon(0);
pub(in crate::model) const ONE_CORE: gemm::Parallelism = gemm::Parallelism::None;

/// y (rows, out) = x (rows, in) · Wᵀ on all cores.
pub(in crate::model) fn matmul_transposed(
    x: &[f32],
    weight: &[f32],
    y: &mut [f32],
    (rows, outputs, inputs): (usize, usize, usize),
) {
    gemm(
        (rows, outputs, inputs),
        (y, outputs, 1),
        (x, inputs, 1),
        (weight, 1, inputs),
        (1.0, false),
        ALL_CORES,
    );
}

fn tensor(data: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), like.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rope::RopeTable;
    use candle_core::{Device, Var};
    use std::sync::Arc;

    fn random(shape: (usize, usize), seed: u64) -> Var {
        use rand::{Rng, SeedableRng};
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let data: Vec<f32> = (0..shape.0 * shape.1).map(|_| rng.random_range(-1.0..1.0)).collect();
        Var::from_tensor(&Tensor::from_vec(data, shape, &Device::Cpu).unwrap()).unwrap()
    }

    /// Compares the gradient of Σ f·c (c fixed and random) with central differences.
    fn check(inputs: &[Var], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
        let loss = |inputs: &[Tensor]| -> Result<Tensor> {
            let y = f(inputs)?;
            if y.rank() == 0 {
                return Ok(y);
            }
            let c = random(y.dims2()?, 99);
            (y * c.as_tensor())?.sum_all()
        };
        let tensors: Vec<Tensor> = inputs.iter().map(|v| v.as_tensor().clone()).collect();
        let gradients = loss(&tensors).unwrap().backward().unwrap();
        for (which, var) in inputs.iter().enumerate() {
            let analytic = gradients.get(var).unwrap().flatten_all().unwrap();
            let analytic = analytic.to_vec1::<f32>().unwrap();
            let values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for i in (0..values.len()).step_by(values.len() / 7 + 1) {
                let at = |delta: f32| {
                    let mut moved = values.clone();
                    moved[i] += delta;
                    let mut tensors = tensors.clone();
                    tensors[which] = Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap();
                    loss(&tensors).unwrap().to_scalar::<f32>().unwrap()
                };
                let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
                let error = (numeric - analytic[i]).abs();
                assert!(
                    error < 2e-2 * (1.0 + numeric.abs()),
                    "{which}[{i}]: {numeric} {analytic:?}"
                );
            }
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (x, w) = (random((6, 16), 1), random((8, 16), 2));
        check(&[x.clone(), w], |t| linear(&t[0], &t[1]));
        check(&[x.clone(), random((1, 16), 3)], |t| rms_norm(&t[0], &t[1].flatten_all()?, 1e-5));
        check(&[x.clone(), random((6, 16), 4)], |t| swiglu(&t[0], &t[1]));
        let table = Arc::new(RopeTable::new(8, 10_000.0, 16));
        check(&[x], |t| rope(&t[0], &table, 3));
        let shape = AttentionShape { sequence: 5, heads: 4, kv_heads: 2, head_dim: 8 };
        let (q, k, v) = (random((10, 32), 5), random((10, 16), 6), random((10, 16), 7));
        check(&[q, k, v], |t| attention(&t[0], &t[1], &t[2], shape));
        let targets = [0, 3, IGNORE, 7, 1, 1];
        check(&[random((6, 16), 8), random((8, 16), 9)], |t| cross_entropy(&t[0], &t[1], &targets));
    }
}
