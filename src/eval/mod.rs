//! Suites and metrics. Everything measured is printed by a command, never asserted on time.

pub mod completion;
pub mod compression;
pub mod corrections;
pub mod engine;
pub mod fitting;
pub mod fix;
pub mod greedy;
pub mod infilling;
pub mod machine;
pub mod memory;
mod middles;
pub mod ngram;
pub mod optimize;
pub mod perplexity;
pub mod projects;
pub mod repair;
pub mod replay;
pub mod speedups;
pub mod texts;

pub use middles::MiddleLoss;
