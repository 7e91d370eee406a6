//! The rotary position embedding and its gradient.

use crate::model::rope::RopeTable;
use crate::model::simd::{self, vectorize};

/// Rotates the heads of x (positions, width) in place, positions from 0 (Su et al. 2021).
pub fn forward(x: &mut [f32], width: usize, table: &RopeTable) {
    rotate(x, width, table, 1.0);
}

/// Turns the gradient back: the transpose of a rotation is its inverse.
pub fn backward(dx: &mut [f32], width: usize, table: &RopeTable) {
    rotate(dx, width, table, -1.0);
}

fn rotate(x: &mut [f32], width: usize, table: &RopeTable, sign: f32) {
    vectorize!(|| {
        for (position, row) in x.chunks_exact_mut(width).enumerate() {
            let (cos, sin) = table.row(position);
            let mut signed = [0f32; RopeTable::MAX_PAIRS];
            for (to, from) in signed.iter_mut().zip(sin) {
                *to = from * sign;
            }
            for head in row.chunks_exact_mut(2 * cos.len()) {
                simd::rotate(head, cos, &signed[..cos.len()]);
            }
        }
    });
}
