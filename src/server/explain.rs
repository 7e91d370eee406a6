//! `nestling.explain`: why the text that is suggested at a place reads as it does, token by token.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc::{Error, Result};

use super::commands::EXPLAIN;
use super::shared::Shared;
use super::{aside, from_proto};
use crate::suggest::{CompletionRequest, explanation};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    text_document: lsp::TextDocumentIdentifier,
    position: lsp::Position,
}

/// The suggestion at a place as `text`, its `pieces`, and a `table` of them for people.
pub(super) async fn explain(shared: &Arc<Shared>, arguments: &[Value]) -> Result<Value> {
    let place: Place =
        arguments.first().and_then(|place| serde_json::from_value(place.clone()).ok()).ok_or_else(
            || Error::invalid_params(format!("{EXPLAIN} needs a textDocument and a position")),
        )?;
    let (snapshot, encoding) = {
        let state = shared.state.lock();
        let snapshot = state.documents.snapshot(&place.text_document.uri.0);
        (snapshot, state.client.encoding)
    };
    let Some(snapshot) = snapshot else {
        return Err(Error::invalid_params("the document is not open".to_string()));
    };
    let document = snapshot.document.clone();
    let offset = document.text.offset(from_proto::position(place.position), encoding);
    let request = CompletionRequest::invoked(snapshot, offset);
    let explained = aside::ask(shared, &document, move |completer, cancel| {
        completer.and_then(|completer| completer.explained(&request, cancel))
    });
    let Some((suggestion, pieces)) = explained.await.flatten() else { return Ok(Value::Null) };
    let table = explanation(&pieces);
    Ok(json!({ "text": suggestion.edit.new_text, "pieces": pieces, "table": table }))
}
