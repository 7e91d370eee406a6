//! The network: configuration, weights, a differentiable forward for training and an inference
//! engine with a KV cache over the same weights.

mod attention;
pub mod backprop;
pub mod chat_template;
pub mod config;
pub mod engine;
pub mod estimate;
pub mod family;
pub mod gguf;
pub mod groups;
pub mod kv_cache;
pub mod lora;
mod matrix;
pub mod ops;
pub mod parameters;
pub mod peft;
#[cfg(target_arch = "x86_64")]
mod q8_0;
pub mod quantize;
pub mod rope;
pub mod safetensors;
pub(crate) mod simd;
pub mod split;
pub mod transformer;
pub mod weights;
