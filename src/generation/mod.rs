//! Prompt in, tokens out: sampling, token healing, stop conditions, cancellation.

mod cancel;
pub mod fit;
mod generator;
mod model;

pub use cancel::CancelToken;
pub use generator::{
    Finish, Flow, GenerateOptions, Generated, Generation, Generator, Mark, Prompt, Reason,
};
pub use model::{EMBEDDED_NAME, MAX_CONTEXT, Model, ModelSource};
