//! Training: sources → prepared documents → examples → steps → checkpoint → model directory.

pub mod autotune;
pub mod checkpoint;
pub mod corpus;
pub mod dataset;
pub mod documents;
mod edit_pairs;
mod filter;
mod near_duplicates;
pub mod optimizer;
pub mod pipeline;
pub mod plot;
pub mod prepare;
pub mod recipe;
pub mod snippets;
pub mod sources;
pub mod trainer;
