//! Prompt in, tokens out: sampling, stop rules, cancellation.

mod cancel;

pub use cancel::CancelToken;
