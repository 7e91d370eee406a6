//! The commands that a client can execute.
//! An accepted suggestion carries the first one with it, so the server learns without a request of its own.

use std::sync::Arc;

use serde_json::Value;
use tower_lsp_server::jsonrpc::{Error, Result};

use super::shared::Shared;

/// `nestling.accepted ID`: the suggestion with that id was inserted.
pub(super) const ACCEPTED: &str = "nestling.accepted";
/// `nestling.status`: returns what `nestling/status` returns.
pub(super) const STATUS: &str = "nestling.status";

pub(super) fn execute(shared: &Arc<Shared>, command: &str, arguments: &[Value]) -> Result<Value> {
    match command {
        ACCEPTED => {
            if arguments.first().and_then(Value::as_str).is_none() {
                return Err(Error::invalid_params(format!("{ACCEPTED} needs the suggestion's id")));
            }
            shared.state.lock().stats.counts.accepted += 1;
            shared.status_changed();
            Ok(Value::Null)
        }
        STATUS => Ok(shared.status()),
        _ => Err(Error::invalid_params(format!("unknown command: {command}"))),
    }
}
