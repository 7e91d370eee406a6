//! Slice arithmetic that the compiler turns into the widest vector instructions of this machine.
//!
//! The functions are plain Rust, always inlined; call them inside [`vectorize!`], which picks
//! AVX-512, AVX2 or the baseline at run time. Sums keep 16 partial sums, because floating-point
//! addition may not be reordered by the compiler.

/// Evaluates `|| body` compiled for the best instruction set of this machine. A macro, because only a
/// closure that is always inlined is compiled for more than the baseline.
macro_rules! vectorize {
    (|| $body:expr) => {
        $crate::model::simd::dispatch(
            #[inline(always)]
            || $body,
        )
    };
}
pub(crate) use vectorize;

/// The function behind [`vectorize!`].
#[inline(always)]
pub(crate) fn dispatch<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> pulp::WithSimd for Work<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, simd: S) -> R {
            simd.vectorize(
                #[inline(always)]
                || (self.0)(),
            )
        }
    }
    pulp::Arch::new().dispatch(Work(work))
}

const LANES: usize = 16;

/// Σ aᵢ·bᵢ.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            sums[i] += x[i] * y[i];
        }
    }
    let tail: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + tail
}

/// Σ aᵢ·bᵢ·cᵢ.
#[inline(always)]
pub(crate) fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let (c_chunks, c_rest) = c.as_chunks::<LANES>();
    for ((x, y), z) in a_chunks.iter().zip(b_chunks).zip(c_chunks) {
        for i in 0..LANES {
            sums[i] += x[i] * y[i] * z[i];
        }
    }
    let tail: f32 = a_rest.iter().zip(b_rest).zip(c_rest).map(|((x, y), z)| x * y * z).sum();
    sums.iter().sum::<f32>() + tail
}

/// Σ aᵢ.
#[inline(always)]
pub(crate) fn sum(a: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for x in chunks {
        for i in 0..LANES {
            sums[i] += x[i];
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// The largest element; −∞ of an empty slice.
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for x in chunks {
        for i in 0..LANES {
            best[i] = if x[i] > best[i] { x[i] } else { best[i] };
        }
    }
    best.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m })
}

/// y += α·x.
#[inline(always)]
pub(crate) fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += alpha * x;
    }
}

/// eˣ within 2 units in the last place for x in −87…88, 0 below, the largest finite value above.
///
/// Cephes' range reduction (x = n·ln 2 + r) and a polynomial in r: branch-free, so it vectorizes.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let clamped = x.clamp(-87.0, 88.0);
    // Adding 1.5·2²³ rounds to the nearest integer; `floor` would be a call of the C library.
    const ROUND: f32 = 12_582_912.0;
    let n = (clamped * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5.0e-1;
    let e = p * r * r + r + 1.0;
    // SAFETY-free bit trick: 2ⁿ for n in −126…127 is the exponent field alone.
    let scale = f32::from_bits((((n as i32) + 127) << 23) as u32);
    if x < -87.0 { 0.0 } else { e * scale }
}

/// softmax in place; returns (maximum, Σ e^(x−maximum)).
#[inline(always)]
pub(crate) fn softmax(row: &mut [f32]) -> (f32, f32) {
    let top = max(row);
    for x in row.iter_mut() {
        *x = exp(*x - top);
    }
    let total = sum(row);
    let inverse = 1.0 / total;
    for x in row.iter_mut() {
        *x *= inverse;
    }
    (top, total)
}

/// x·σ(x).
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// x·Φ(x) with Φ approximated by a hyperbolic tangent: ½·(1 + tanh u) is σ(2u).
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    let u = 0.797_884_6 * (x + 0.044_715 * x * x * x);
    x / (1.0 + exp(-2.0 * u))
}

/// x·Φ(x), Φ the normal distribution: within 4·10⁻⁷ of it (Abramowitz and Stegun 7.1.26).
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4f32;
    p = p * t - 1.453_152_1;
    p = p * t + 1.421_413_8;
    p = p * t - 0.284_496_72;
    p = p * t + 0.254_829_6;
    // Half of what lies outside ±|x|.
    let tail = 0.5 * p * t * exp(-z * z);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// Normalization of one row by mean and standard deviation:
/// out = (x − mean) / √(variance + ε) · weight + bias.
#[inline(always)]
pub(crate) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, out: &mut [f32]) {
    let mean = sum(x) / x.len() as f32;
    for (out, &x) in out.iter_mut().zip(x) {
        *out = x - mean;
    }
    let scale = 1.0 / (dot(out, out) / x.len() as f32 + epsilon).sqrt();
    for ((out, &w), &b) in out.iter_mut().zip(weight).zip(bias) {
        *out = *out * scale * w + b;
    }
}

/// Root-mean-square normalization of one row: out = x / √(mean x² + ε) · weight.
#[inline(always)]
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let scale = 1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt();
    for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * w;
    }
}

/// [`rms_norm`] in place.
#[inline(always)]
pub(crate) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], epsilon: f32) {
    let scale = 1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt();
    for (x, &w) in x.iter_mut().zip(weight) {
        *x *= scale * w;
    }
}

/// Rotates one head by its position: pairs (i, i + d/2), the convention of the llama family in
/// Hugging Face checkpoints. `cos` and `sin` hold d/2 values each, or fewer where only the first features are
/// rotated: n values then stand for the pairs (i, i + n).
#[inline(always)]
pub(crate) fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = head.split_at_mut(cos.len());
    for (((a, b), &c), &s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_library() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01;
            let (ours, theirs) = (vectorize!(|| exp(x)), x.exp());
            assert!((ours - theirs).abs() <= 3e-7 * theirs, "{x}: {ours} {theirs}");
        }
        assert_eq!(exp(-1e9), 0.0);
    }

    #[test]
    fn activations_are_what_they_say() {
        // ∫ of the normal density from −6 to x, in f64.
        let phi = |x: f64| {
            let (steps, from) = (4000, -8.0);
            let width = (x - from) / f64::from(steps);
            let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
            (0..steps).map(|i| density(from + (f64::from(i) + 0.5) * width) * width).sum::<f64>()
        };
        for i in -60..60 {
            let x = i as f32 * 0.1;
            let exact = f64::from(x) * phi(f64::from(x));
            let (ours, tanh) = (f64::from(gelu(x)), f64::from(gelu_tanh(x)));
            assert!((ours - exact).abs() < 3e-6, "{x}: {ours} {exact}");
            assert!((tanh - exact).abs() < 1e-3, "{x}: {tanh} {exact}");
        }
        // The last digits of e^x are left, nothing that grows with x.
        assert!(gelu(-1e9).abs() < 1e-20 && gelu_tanh(-1e9).abs() < 1e-20);
        assert_eq!((gelu(1e9), gelu_tanh(1e9)), (1e9, 1e9));
    }

    #[test]
    fn a_layer_norm_has_its_bias_as_mean() {
        let x: Vec<f32> = (0..37).map(|i| (i * i % 11) as f32).collect();
        let mut out = vec![0.0; 37];
        vectorize!(|| layer_norm(&x, &[2.0; 37], &[3.0; 37], 0.0, &mut out));
        let mean = sum(&out) / 37.0;
        let deviations: Vec<f32> = out.iter().map(|y| y - mean).collect();
        let variance = dot(&deviations, &deviations) / 37.0;
        assert!((mean - 3.0).abs() < 1e-5 && (variance - 4.0).abs() < 1e-4, "{mean} {variance}");
    }

    #[test]
    fn sums_cover_the_tail() {
        let a: Vec<f32> = (1..=19).map(|x| x as f32).collect();
        assert_eq!(vectorize!(|| (sum(&a), dot(&a, &a), max(&a))), (190.0, 2470.0, 19.0));
        assert_eq!(vectorize!(|| dot3(&a, &a, &a)), 36100.0);
    }
}
