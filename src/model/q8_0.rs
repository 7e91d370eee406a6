//! Matrices in Q8_0 on x86: packed once at loading, sixteen outputs side by side, and multiplied with 8-bit inputs.
//!
//! A block of Q8_0 is 32 weights of one output with a scale. Here the same weights of 16 outputs form a tile, so that one
//! load has what one instruction multiplies: 4 inputs of each of 16 (AVX-512) or 8 (AVX2) outputs. The packed form is the
//! only one that is kept, as large as the file's. Inputs are quantized by blocks of 32, too, once for all matrices of
//! a group. Sums inside a block are exact integers; the order of everything else is fixed, so a result depends neither on
//! how many rows are computed together nor on the number of threads.

use std::sync::OnceLock;

use candle_core::quantized::{GgmlDType, QTensor};

use super::matrix::in_parallel;
use super::simd::{self, vectorize};

/// Weights that share a scale.
const BLOCK: usize = 32;
/// Bytes of a block in a file: the scale in f16, then the weights.
const BLOCK_BYTES: usize = 2 + BLOCK;
/// Outputs of a tile.
const OUTPUTS: usize = 16;
/// Inputs that one instruction multiplies and adds.
const INPUTS: usize = 4;
/// Lines of a block in a tile.
const LINES: usize = BLOCK / INPUTS;
/// Lines that are fetched ahead where one row alone is computed.
const AHEAD: usize = 48;
/// Products from which a second thread is worth waking.
const PARALLEL: usize = 1 << 17;

/// 4 weights of each of 16 outputs.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; OUTPUTS * INPUTS]);

/// A matrix (outputs, inputs).
pub(super) struct PackedQ8 {
    outputs: usize,
    inputs: usize,
    /// (tiles, blocks, lines); weights plus 128, since the instructions multiply unsigned numbers by signed ones.
    lines: Vec<Line>,
    /// (tiles, blocks) scales in f16.
    scales: Vec<[u16; OUTPUTS]>,
}

/// Rows of inputs, quantized.
struct Inputs {
    blocks: usize,
    /// (rows, blocks, lines), 4 signed bytes each.
    values: Vec<[i8; INPUTS]>,
    /// (rows, blocks).
    scales: Vec<f32>,
    /// (rows, blocks): what the 128 in each weight adds to a sum, negated.
    excess: Vec<i32>,
}

/// Which instructions there are, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Avx512Vnni,
    AvxVnni,
    Avx2,
}

impl Level {
    fn is_here(self) -> bool {
        let common = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        common
            && match self {
                Level::Avx512Vnni => {
                    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")
                }
                Level::AvxVnni => is_x86_feature_detected!("avxvnni"),
                Level::Avx2 => true,
            }
    }

    fn best() -> Option<Level> {
        static BEST: OnceLock<Option<Level>> = OnceLock::new();
        let levels = [Level::Avx512Vnni, Level::AvxVnni, Level::Avx2];
        *BEST.get_or_init(|| levels.into_iter().find(|level| level.is_here()))
    }
}

impl PackedQ8 {
    /// Packs a matrix of that type; `None` of another type or without the instructions.
    pub(super) fn pack(matrix: &QTensor) -> Option<PackedQ8> {
        Level::best()?;
        let (outputs, inputs) = matrix.shape().dims2().ok()?;
        if matrix.dtype() != GgmlDType::Q8_0 || !inputs.is_multiple_of(BLOCK) {
            return None;
        }
        let data = matrix.data().ok()?;
        let blocks = inputs / BLOCK;
        let tiles = outputs.div_ceil(OUTPUTS);
        let mut lines = Vec::with_capacity(tiles * blocks * LINES);
        want_large_pages(&lines);
        lines.resize(lines.capacity(), Line([128; OUTPUTS * INPUTS]));
        let mut scales = vec![[0u16; OUTPUTS]; tiles * blocks];
        for (at, block) in data.chunks_exact(BLOCK_BYTES).enumerate() {
            let (output, block_at) = (at / blocks, at % blocks);
            let place = output / OUTPUTS * blocks + block_at;
            let lane = output % OUTPUTS;
            scales[place][lane] = u16::from_le_bytes([block[0], block[1]]);
            let lines = &mut lines[place * LINES..(place + 1) * LINES];
            for (line, weights) in lines.iter_mut().zip(block[2..].chunks_exact(INPUTS)) {
                for (to, weight) in line.0[lane * INPUTS..].iter_mut().zip(weights) {
                    *to = weight ^ 0x80;
                }
            }
        }
        Some(PackedQ8 { outputs, inputs, lines, scales })
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    fn blocks(&self) -> usize {
        self.inputs / BLOCK
    }

    fn tiles(&self) -> usize {
        self.outputs.div_ceil(OUTPUTS)
    }

    /// Appends the weights of one output, as an embedding table needs them.
    pub(super) fn row(&self, output: usize, out: &mut Vec<f32>) {
        let (tile, lane) = (output / OUTPUTS, output % OUTPUTS);
        for place in tile * self.blocks()..(tile + 1) * self.blocks() {
            let scale = half::f16::from_bits(self.scales[place][lane]).to_f32();
            for line in &self.lines[place * LINES..(place + 1) * LINES] {
                let weights = &line.0[lane * INPUTS..(lane + 1) * INPUTS];
                out.extend(weights.iter().map(|&weight| scale * f32::from((weight ^ 0x80) as i8)));
            }
        }
    }
}

/// Whether the machine has the instructions.
pub(super) fn is_possible() -> bool {
    Level::best().is_some()
}

/// Asks for large pages, with which reading is not slowed by looking up addresses.
fn want_large_pages(lines: &Vec<Line>) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 2 << 20;
        let start = (lines.as_ptr() as usize).next_multiple_of(PAGE);
        let end = lines.as_ptr() as usize + size_of::<Line>() * lines.capacity();
        if end > start + PAGE {
            // SAFETY: advice about memory of our own.
            unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_HUGEPAGE) };
        }
    }
}

/// x (rows, inputs) times each of these matrices of as many inputs: (rows, outputs) each.
pub(super) fn multiply<const N: usize>(matrices: [&PackedQ8; N], x: &[f32]) -> [Vec<f32>; N] {
    let level = Level::best().expect("nothing is packed without the instructions");
    multiply_at(level, matrices, x)
}

fn multiply_at<const N: usize>(level: Level, matrices: [&PackedQ8; N], x: &[f32]) -> [Vec<f32>; N] {
    let inputs = matrices[0].inputs;
    let rows = x.len() / inputs;
    let x = Inputs::quantize(x, inputs);
    let mut out = matrices.map(|matrix| vec![0f32; rows * matrix.outputs]);
    let ends: [(usize, usize); N] =
        std::array::from_fn(|i| (out[i].as_mut_ptr() as usize, matrices[i].tiles()));
    let work = |range: std::ops::Range<usize>| {
        for mut tile in range {
            let mut matrix = 0;
            while tile >= ends[matrix].1 {
                tile -= ends[matrix].1;
                matrix += 1;
            }
            // SAFETY: tiles write disjoint columns of `out`, which outlives the parallel region; the level was detected.
            unsafe {
                one_tile(level, matrices[matrix], tile, &x, ends[matrix].0 as *mut f32, rows)
            };
        }
    };
    let tiles = ends.iter().map(|end| end.1).sum();
    if tiles * OUTPUTS * inputs * rows < PARALLEL {
        work(0..tiles);
    } else {
        in_parallel(tiles, work);
    }
    out
}

/// All rows of a tile. `y` is (rows, outputs).
///
/// # Safety
/// The machine has the instructions of `level`; nobody else touches the columns of this tile in `y`.
unsafe fn one_tile(
    level: Level,
    matrix: &PackedQ8,
    tile: usize,
    x: &Inputs,
    y: *mut f32,
    rows: usize,
) {
    let blocks = matrix.blocks();
    let lines = &matrix.lines[tile * blocks * LINES..(tile + 1) * blocks * LINES];
    let scales = &matrix.scales[tile * blocks..(tile + 1) * blocks];
    let columns = OUTPUTS.min(matrix.outputs - tile * OUTPUTS);
    let mut from = 0;
    while from < rows {
        let mut sums = [[0f32; OUTPUTS]; avx512::ROWS];
        // SAFETY: the caller's.
        let done = unsafe {
            match level {
                Level::Avx512Vnni => avx512::rows(lines, scales, x, from, rows - from, &mut sums),
                Level::AvxVnni => avx_vnni::rows(lines, scales, x, from, rows - from, &mut sums),
                Level::Avx2 => avx2::rows(lines, scales, x, from, rows - from, &mut sums),
            }
        };
        for (row, sums) in sums[..done].iter().enumerate() {
            let at = (from + row) * matrix.outputs + tile * OUTPUTS;
            // SAFETY: `columns` of a row inside `y`, which are this tile's own.
            unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), y.add(at), columns) };
        }
        from += done;
    }
}

impl Inputs {
    fn quantize(x: &[f32], inputs: usize) -> Inputs {
        let blocks = x.len() / BLOCK;
        let mut values = vec![[0i8; INPUTS]; blocks * LINES];
        let (mut scales, mut excess) = (vec![0f32; blocks], vec![0i32; blocks]);
        vectorize!(|| {
            for (at, block) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
                let values = values[at * LINES..(at + 1) * LINES].as_flattened_mut();
                (scales[at], excess[at]) = quantize_block(block, values);
            }
        });
        Inputs { blocks: inputs / BLOCK, values, scales, excess }
    }
}

/// The scale of a block, and −128 times the sum of its quantized values.
#[inline(always)]
fn quantize_block(block: &[f32; BLOCK], values: &mut [i8]) -> (f32, i32) {
    let magnitudes = block.map(f32::abs);
    let largest = simd::max(&magnitudes);
    const LEAST: f32 = 128.0 * f32::MIN_POSITIVE; // Below, the inverse would be infinite.
    let (scale, inverse) = (largest / 127.0, if largest > LEAST { 127.0 / largest } else { 0.0 });
    // Adding 1.5·2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let mut sum = 0i32;
    for (value, &x) in values.iter_mut().zip(block) {
        let rounded = ((x * inverse + ROUND) - ROUND) as i32;
        *value = rounded as i8;
        sum += rounded;
    }
    (scale, -128 * sum)
}

/// The loops over one tile, for one set of instructions.
macro_rules! kernel {
    ($features:literal, $rows:literal, $lanes:literal, $ints:ty, $floats:ty) => {
        /// Rows that are computed together.
        pub(super) const ROWS: usize = $rows;

        /// As many of the rows `from…` as are computed together, at most `left`; returns how many.
        #[target_feature(enable = $features)]
        pub(super) fn rows(
            lines: &[Line],
            scales: &[[u16; OUTPUTS]],
            x: &Inputs,
            from: usize,
            left: usize,
            out: &mut [[f32; OUTPUTS]],
        ) -> usize {
            // Sums of one row alone would wait for each other: four chains of them.
            if left >= ROWS {
                together::<ROWS, 1>(lines, scales, x, from, out);
                ROWS
            } else if left >= 4 {
                together::<4, 1>(lines, scales, x, from, out);
                4
            } else if left >= 2 {
                together::<2, 2>(lines, scales, x, from, out);
                2
            } else {
                together::<1, 4>(lines, scales, x, from, out);
                1
            }
        }

        #[target_feature(enable = $features)]
        fn together<const M: usize, const CHAINS: usize>(
            lines: &[Line],
            scales: &[[u16; OUTPUTS]],
            x: &Inputs,
            from: usize,
            out: &mut [[f32; OUTPUTS]],
        ) {
            let blocks = x.blocks;
            let values: [&[[i8; INPUTS]]; M] = std::array::from_fn(|m| {
                &x.values[(from + m) * blocks * LINES..(from + m + 1) * blocks * LINES]
            });
            let x_scales: [&[f32]; M] =
                std::array::from_fn(|m| &x.scales[(from + m) * blocks..(from + m + 1) * blocks]);
            let excess: [&[i32]; M] =
                std::array::from_fn(|m| &x.excess[(from + m) * blocks..(from + m + 1) * blocks]);
            assert!(lines.len() == blocks * LINES && scales.len() == blocks && out.len() >= M);
            for part in 0..OUTPUTS / $lanes {
                let mut totals: [$floats; M] = [zeros(); M];
                for block in 0..blocks {
                    let mut sums: [[$ints; M]; CHAINS] = [[begin(0); M]; CHAINS];
                    for m in 0..M {
                        sums[0][m] = begin(excess[m][block]);
                    }
                    for line in 0..LINES {
                        let at = block * LINES + line;
                        if M == 1 {
                            // One row is as fast as memory: the next page is not left to the hardware to guess.
                            let ahead = lines.as_ptr().wrapping_add(at + AHEAD);
                            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                        }
                        let weights = load(&lines[at], part);
                        for m in 0..M {
                            let chain = &mut sums[line % CHAINS][m];
                            *chain = dot(
                                *chain,
                                weights,
                                i32::from_ne_bytes(values[m][at].map(|v| v as u8)),
                            );
                        }
                    }
                    let scale = widen(&scales[block], part);
                    for m in 0..M {
                        let mut sum = sums[0][m];
                        for chain in &sums[1..] {
                            sum = add(sum, chain[m]);
                        }
                        totals[m] = scaled(sum, scale, x_scales[m][block], totals[m]);
                    }
                }
                for m in 0..M {
                    store(totals[m], &mut out[m], part);
                }
            }
        }
    };
}

mod avx512 {
    use super::{AHEAD, INPUTS, Inputs, LINES, Line, OUTPUTS};
    use std::arch::x86_64::*;

    kernel!("avx2,fma,f16c,avx512f,avx512vnni", 8, 16, __m512i, __m512);

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn zeros() -> __m512 {
        _mm512_setzero_ps()
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn begin(excess: i32) -> __m512i {
        _mm512_set1_epi32(excess)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load(line: &Line, _: usize) -> __m512i {
        // SAFETY: a line is 64 aligned bytes.
        unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    #[inline]
    fn dot(sum: __m512i, weights: __m512i, x: i32) -> __m512i {
        _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(x))
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn add(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn widen(scales: &[u16; OUTPUTS], _: usize) -> __m512 {
        // SAFETY: 16 halves are 32 bytes.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(scales.as_ptr().cast()) })
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn scaled(sum: __m512i, scale: __m512, x_scale: f32, total: __m512) -> __m512 {
        let scale = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale));
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, total)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn store(total: __m512, out: &mut [f32; OUTPUTS], _: usize) {
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), total) }
    }
}

/// What AVX2 with and without VNNI share.
macro_rules! halves {
    () => {
        #[target_feature(enable = "avx2")]
        #[inline]
        fn zeros() -> __m256 {
            _mm256_setzero_ps()
        }

        #[target_feature(enable = "avx2")]
        #[inline]
        fn load(line: &Line, part: usize) -> __m256i {
            // SAFETY: a line is two aligned halves of 32 bytes, and `part` is 0 or 1.
            unsafe { _mm256_load_si256(line.0.as_ptr().add(32 * part).cast()) }
        }

        #[target_feature(enable = "avx2")]
        #[inline]
        fn add(a: __m256i, b: __m256i) -> __m256i {
            _mm256_add_epi32(a, b)
        }

        #[target_feature(enable = "avx2,f16c")]
        #[inline]
        fn widen(scales: &[u16; OUTPUTS], part: usize) -> __m256 {
            // SAFETY: 8 halves are 16 bytes, and `part` is 0 or 1.
            _mm256_cvtph_ps(unsafe { _mm_loadu_si128(scales.as_ptr().add(8 * part).cast()) })
        }

        #[target_feature(enable = "avx2,fma")]
        #[inline]
        fn scaled(sum: __m256i, scale: __m256, x_scale: f32, total: __m256) -> __m256 {
            let scale = _mm256_mul_ps(scale, _mm256_set1_ps(x_scale));
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, total)
        }

        #[target_feature(enable = "avx2")]
        #[inline]
        fn store(total: __m256, out: &mut [f32; OUTPUTS], part: usize) {
            // SAFETY: 8 of 16 floats, and `part` is 0 or 1.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(8 * part), total) }
        }
    };
}

mod avx_vnni {
    use super::{AHEAD, INPUTS, Inputs, LINES, Line, OUTPUTS};
    use std::arch::x86_64::*;

    kernel!("avx2,fma,f16c,avxvnni", 6, 8, __m256i, __m256);
    halves!();

    #[target_feature(enable = "avx2")]
    #[inline]
    fn begin(excess: i32) -> __m256i {
        _mm256_set1_epi32(excess)
    }

    #[target_feature(enable = "avx2,avxvnni")]
    #[inline]
    fn dot(sum: __m256i, weights: __m256i, x: i32) -> __m256i {
        _mm256_dpbusd_avx_epi32(sum, weights, _mm256_set1_epi32(x))
    }
}

mod avx2 {
    use super::{AHEAD, INPUTS, Inputs, LINES, Line, OUTPUTS};
    use std::arch::x86_64::*;

    kernel!("avx2,fma,f16c", 4, 8, __m256i, __m256);
    halves!();

    /// The weights become signed before they are multiplied: nothing is to be taken away.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn begin(_: i32) -> __m256i {
        _mm256_setzero_si256()
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn dot(sum: __m256i, weights: __m256i, x: i32) -> __m256i {
        // Pairs of products are added in 16 bits: 2·128·127 fits, as no input has −128. The sign of a weight goes to its
        // input, since one side must be unsigned; a weight of −128, which a file may have, is 128 there.
        let weights = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
        let x = _mm256_set1_epi32(x);
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::quantized::QStorage;
    use candle_core::{Device, Tensor};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn random(random: &mut StdRng, count: usize) -> Vec<f32> {
        (0..count).map(|_| random.random_range(-1f32..1.0)).collect()
    }

    fn matrix(random_: &mut StdRng, outputs: usize, inputs: usize) -> (QTensor, Vec<f32>) {
        let dense =
            Tensor::from_vec(random(random_, outputs * inputs), (outputs, inputs), &Device::Cpu);
        let quantized = QTensor::quantize(&dense.unwrap(), GgmlDType::Q8_0).unwrap();
        let weights = quantized.dequantize(&Device::Cpu).unwrap();
        (quantized, weights.flatten_all().unwrap().to_vec1().unwrap())
    }

    #[test]
    fn every_level_computes_the_product_whatever_the_shape() {
        let mut rng = StdRng::seed_from_u64(1);
        for (rows, outputs, inputs) in
            [(1, 16, 32), (1, 7, 896), (2, 33, 64), (5, 48, 256), (23, 40, 96)]
        {
            let (quantized, weights) = matrix(&mut rng, outputs, inputs);
            let x = random(&mut rng, rows * inputs);
            let packed = PackedQ8::pack(&quantized).expect("the test machine has AVX2");
            let levels = [Level::Avx512Vnni, Level::AvxVnni, Level::Avx2];
            for level in levels.into_iter().filter(|level| level.is_here()) {
                let [y] = multiply_at(level, [&packed], &x);
                for (at, &y) in y.iter().enumerate() {
                    let (row, output) = (at / outputs, at % outputs);
                    let x = &x[row * inputs..(row + 1) * inputs];
                    let w = &weights[output * inputs..(output + 1) * inputs];
                    let exact: f32 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                    // Inputs are rounded to 1/254 of the largest of their block, each by chance up or down.
                    let allowed = 6.0 * (inputs as f32).sqrt() / 254.0 / 3.0;
                    assert!(
                        (y - exact).abs() < allowed,
                        "{level:?} {rows}×{outputs}×{inputs}: {y} {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn rows_and_matrices_computed_together_are_as_if_alone_to_the_last_bit() {
        let mut rng = StdRng::seed_from_u64(2);
        let (rows, inputs) = (29, 896);
        let [a, b] = [40, 600].map(|outputs| matrix(&mut rng, outputs, inputs).0);
        let [a, b] = [a, b].map(|m| PackedQ8::pack(&m).unwrap());
        let x = random(&mut rng, rows * inputs);
        let [of_a, of_b] = multiply([&a, &b], &x);
        for (row, x) in x.chunks_exact(inputs).enumerate() {
            assert_eq!(multiply([&a], x)[0], of_a[row * 40..(row + 1) * 40]);
            assert_eq!(multiply([&b], x)[0], of_b[row * 600..(row + 1) * 600]);
        }
    }

    #[test]
    fn extremes_neither_overflow_nor_divide_by_zero() {
        let inputs = 64;
        let dense = Tensor::from_vec(vec![-1f32; 16 * inputs], (16, inputs), &Device::Cpu).unwrap();
        let packed = PackedQ8::pack(&QTensor::quantize(&dense, GgmlDType::Q8_0).unwrap()).unwrap();
        for level in [Level::Avx512Vnni, Level::Avx2].into_iter().filter(|level| level.is_here()) {
            for (x, y) in [(-1.0, 64.0), (1.0, -64.0), (0.0, 0.0)] {
                let [out] = multiply_at(level, [&packed], &vec![x; inputs]);
                assert!(out.iter().all(|out| (out - y).abs() < 0.05), "{level:?} {x}: {out:?}");
            }
        }
    }

    #[test]
    fn the_smallest_integer_is_a_weight_like_others() {
        let block = [&half::f16::from_f32(0.5).to_le_bytes()[..], &[0x80; BLOCK]].concat();
        let data = block.repeat(16).into();
        let data = QStorage::from_data(data, &Device::Cpu, GgmlDType::Q8_0).unwrap();
        let packed = PackedQ8::pack(&QTensor::new(data, (16, BLOCK)).unwrap()).unwrap();
        for level in [Level::Avx512Vnni, Level::Avx2].into_iter().filter(|level| level.is_here()) {
            let [out] = multiply_at(level, [&packed], &[-1.0; BLOCK]);
            assert!(out.iter().all(|out| (out - 2048.0).abs() < 1.0), "{out:?}");
        }
    }

    #[test]
    fn a_row_comes_back_as_the_file_has_it() {
        let (quantized, weights) = matrix(&mut StdRng::seed_from_u64(3), 21, 96);
        let packed = PackedQ8::pack(&quantized).unwrap();
        let mut row = Vec::new();
        packed.row(20, &mut row);
        assert_eq!(row, weights[20 * 96..]);
    }
}
