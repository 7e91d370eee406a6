//! The operations of the network with their gradients, fused, on the CPU, f32, one core each.
//!
//! candle's own fused norm, rotary embedding, softmax and attention have no backward pass and stop
//! gradients silently. These are plain functions over row-major slices (rows, features): the passes in
//! [`super::gradients`] call them one sequence after the other, each core on its own sequences.
//! Gradients of weights are added to what is there; gradients of inputs say what they do.

pub mod attention;
pub mod cross_entropy;
pub mod linear;
pub mod norm;
pub mod rope;
pub mod swiglu;

pub use cross_entropy::{IGNORE, Targets};

/// A strided view for [`gemm`]: (elements, row stride, column stride).
pub(in crate::model) type View<'a> = (&'a [f32], usize, usize);

/// dst (m, n) = β·dst + α·lhs (m, k) · rhs (k, n), all with arbitrary strides; β is 1 or 0.
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
