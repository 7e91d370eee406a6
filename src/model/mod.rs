//! The network: configuration, weights, a differentiable forward for training and an inference
//! engine with a KV cache over the same weights.

pub mod config;
pub mod ops;
pub mod rope;
pub mod safetensors;
pub(crate) mod simd;
pub mod transformer;
