//! Working hours: spans of time, and the days that they add up to.

pub mod day;
pub mod span;

pub use day::Day;
pub use span::Span;
