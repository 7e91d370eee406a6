//! Training: corpus → tokens → examples → steps → checkpoint.

pub mod checkpoint;
pub mod corpus;
pub mod dataset;
pub mod optimizer;
pub mod recipe;
pub mod trainer;
