//! Documentation comments in the menu of a function's head: worked out when the entry is chosen.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc::Result;

use super::actions::{Place, changed, edit, later, recalled, unchanged};
use super::aside;
use super::shared::Shared;
use crate::suggest::document::{Signature, document};
use crate::workspace::Snapshot;

/// The kind of these entries: nothing is done to the code.
pub(super) const DOCUMENT: &str = "refactor.rewrite.document";

/// What an entry remembers of its function.
#[derive(Deserialize, Serialize)]
struct Remembered {
    uri: String,
    revision: u64,
    /// Where the comment goes.
    comment: usize,
}

/// The entry of a menu on the head of a function that has no comment.
pub(super) fn entry(snapshot: &Snapshot, place: &Place<'_>) -> Option<Value> {
    let document = &snapshot.document;
    let tree = document.tree.as_ref().filter(|tree| tree.is_current())?;
    let signature = Signature::at(tree, document.text.as_str(), &place.lines)?;
    let title = format!("nestling: document `{}`", signature.name);
    let (uri, revision) = (document.uri.clone(), document.revision);
    Some(later(&title, DOCUMENT, &Remembered { uri, revision, comment: signature.at }))
}

/// Works an entry out that was chosen: its edit.
pub(super) async fn resolve(shared: &Arc<Shared>, mut action: Value) -> Result<Value> {
    let Ok(data) = serde_json::from_value::<Remembered>(action["data"].clone()) else {
        return Ok(action);
    };
    let snapshot = recalled(shared, &data.uri, data.revision).await?;
    let own = snapshot.clone();
    let written = aside::ask(shared, &snapshot.document, move |completer, cancel| {
        let tree = own.document.tree.as_ref().ok_or("the file does not parse")?;
        let all = Signature::all(tree, own.document.text.as_str());
        let signature = all.into_iter().find(|s| s.at == data.comment);
        document(completer, &own, &signature.ok_or("the function has changed")?, cancel)
    });
    let written = written.await.ok_or_else(changed)?;
    unchanged(shared, &data.uri, data.revision)?;
    let text = match written {
        Ok(made) => {
            let client = shared.state.lock().client.clone();
            let text = made.to_string();
            action["edit"] = edit(&snapshot.document, &client, &[made.edit], &text);
            text
        }
        Err(reason) => reason,
    };
    shared.client.show_message(lsp::MessageType::Info, format!("nestling: {text}")).await;
    Ok(action)
}
