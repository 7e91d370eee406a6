//! The rotary position embedding and its gradient.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{ROWS, slice};
use crate::model::rope::RopeTable;
use crate::model::simd::{self, vectorize};

/// Rotary position embedding (Su et al. 2021) of x (batch·sequence, heads·head_dim); positions count
/// from 0 in each sequence.
pub fn rope(x: &Tensor, table: &Arc<RopeTable>, sequence: usize) -> Result<Tensor> {
    x.apply_op1(Rope { table: table.clone(), sequence, sign: 1.0 })
}

struct Rope {
    table: Arc<RopeTable>,
    sequence: usize,
    /// −1 rotates backwards: the transpose of a rotation, so its gradient.
    sign: f32,
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = xl.shape().dims2()?;
        if self.sequence > self.table.positions() || rows % self.sequence != 0 {
            candle_core::bail!("rope: {rows} rows are no whole sequences of {}", self.sequence)
        }
        let mut y = slice(x, xl)?.to_vec();
        y.par_chunks_mut(ROWS * width).enumerate().for_each(|(block, rows)| {
            vectorize!(|| {
                for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                    let (cos, sin) = self.table.row((block * ROWS + i) % self.sequence);
                    let mut signed = [0f32; RopeTable::MAX_PAIRS];
                    for (to, from) in signed.iter_mut().zip(sin) {
                        *to = from * self.sign;
                    }
                    for head in row.chunks_exact_mut(2 * cos.len()) {
                        simd::rotate(head, cos, &signed[..cos.len()]);
                    }
                }
            })
        });
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let inverse = Rope { table: self.table.clone(), sequence: self.sequence, sign: -self.sign };
        Ok(Some(dy.contiguous()?.apply_op1_no_bwd(&inverse)?))
    }
}
