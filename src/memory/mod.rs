//! What the repository already says about the place that is being edited.
//! [`retrieval`] brings lines of other files into the prompt.

pub mod retrieval;
