//! The integration tests: the parts together, as a user or an editor meets them.

mod architecture;
mod server;
