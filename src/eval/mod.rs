//! Suites and metrics. Everything measured is printed by a command, never asserted on time.

pub mod completion;
pub mod engine;
