//! The gated activation of the feed-forward layer and its gradients.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{read, slice, tensor};
use crate::model::simd::{self, vectorize};

/// silu(gate) · up, element by element (Shazeer 2020).
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2(up, SwiGlu)
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gl: &Layout,
        up: &CpuStorage,
        ul: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (slice(gate, gl)?, slice(up, ul)?);
        let mut y = vec![0f32; gate.len()];
        const CHUNK: usize = 1 << 14;
        y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK)).for_each(
            |((y, gate), up)| {
                vectorize!(|| {
                    for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
                        *y = simd::silu(g) * u;
                    }
                })
            },
        );
        Ok((CpuStorage::F32(y), gl.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut dgate = vec![0f32; gate.elem_count()];
        let mut dup = vec![0f32; up.elem_count()];
        const CHUNK: usize = 1 << 14;
        read(gate, |gate| {
            read(up, |up| {
                read(dy, |dy| {
                    let outputs = dgate.par_chunks_mut(CHUNK).zip(dup.par_chunks_mut(CHUNK));
                    let inputs = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK));
                    outputs.zip(inputs.zip(dy.par_chunks(CHUNK))).for_each(
                        |((dgate, dup), ((gate, up), dy))| {
                            vectorize!(|| {
                                for i in 0..dy.len() {
                                    let sigmoid = 1.0 / (1.0 + simd::exp(-gate[i]));
                                    let silu = gate[i] * sigmoid;
                                    dup[i] = dy[i] * silu;
                                    dgate[i] = dy[i] * up[i] * (sigmoid + silu * (1.0 - sigmoid));
                                }
                            })
                        },
                    );
                    Ok(())
                })
            })
        })?;
        Ok((Some(tensor(dgate, gate)?), Some(tensor(dup, up)?)))
    }
}
