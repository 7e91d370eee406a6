//! The matrix product with a weight, and its gradients.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{ALL_CORES, gemm, matmul_transposed, read, slice, tensor};

/// y (tokens, out) = x (tokens, in) · Wᵀ with W (out, in), the layout of checkpoints.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.apply_op2(weight, Linear)
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, inputs), (outputs, w_inputs)) = (xl.shape().dims2()?, wl.shape().dims2()?);
        if inputs != w_inputs {
            candle_core::bail!(
                "linear: input {:?} does not fit weight {:?}",
                xl.shape(),
                wl.shape()
            )
        }
        let mut y = vec![0f32; rows * outputs];
        let (x, w) = (slice(x, xl)?, slice(w, wl)?);
        matmul_transposed(x, w, &mut y, (rows, outputs, inputs));
        Ok((CpuStorage::F32(y), (rows, outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((rows, inputs), outputs) = (x.dims2()?, w.dim(0)?);
        let mut dx = vec![0f32; rows * inputs];
        let mut dw = vec![0f32; outputs * inputs];
        read(dy, |dy| {
            read(w, |w| {
                gemm(
                    (rows, inputs, outputs),
                    (&mut dx, inputs, 1),
                    (dy, outputs, 1),
                    (w, inputs, 1),
                    (1.0, false),
                    ALL_CORES,
                );
                Ok(())
            })?;
            read(x, |x| {
                gemm(
                    (outputs, inputs, rows),
                    (&mut dw, inputs, 1),
                    (dy, 1, outputs),
                    (x, inputs, 1),
                    (1.0, false),
                    ALL_CORES,
                );
                Ok(())
            })
        })?;
        Ok((Some(tensor(dx, x)?), Some(tensor(dw, w)?)))
    }
}
