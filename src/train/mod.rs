//! Training: sources → prepared documents → examples → steps → checkpoint → model directory.

pub mod autotune;
mod card;
pub mod checkpoint;
pub mod corpus;
pub mod dataset;
pub mod device;
pub mod documents;
mod energy;
mod export;
mod filter;
mod fixes;
pub mod footprint;
pub mod history;
pub mod near_duplicates;
pub mod optimizer;
pub mod output;
pub mod page;
mod pieces;
pub mod pipeline;
pub mod plot;
pub mod prepare;
mod range_test;
pub mod recipe;
mod recovery;
mod report;
pub mod sources;
pub mod trainer;
