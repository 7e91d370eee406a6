//! Rewrites that should be faster: in the menu where their conditions hold, checked when one is chosen, and proven on
//! request: both versions run on the same inputs in a sandbox and measured in turn.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc::{Error, Result};

use super::actions::{Place, REWRITE, Trial, changed, edit, later, recalled, unchanged};
use super::commands::PROVE;
use super::shared::Shared;
use super::to_proto;
use super::watch::may_show;
use crate::generation::CancelToken;
use crate::suggest::optimize::{Effort, Evidence, Rewrite, Workshop, climb, rewrites};
use crate::text::{PositionEncoding, apply};
use crate::workspace::{Document, Snapshot};

/// Entries of one menu.
const MOST_OFFERS: usize = 3;
/// Time to compile the rules of a language, at the first time.
const READING: Duration = Duration::from_secs(3);
/// The token of a proof's progress.
pub(super) const TOKEN: &str = "nestling/prove";

/// What an entry remembers of its rewrite.
#[derive(Clone, Deserialize, Serialize)]
struct Remembered {
    uri: String,
    revision: u64,
    rule: String,
    start: usize,
    end: usize,
}

/// The entries of a menu that rewrite something in `lines`, and one that proves the first.
pub(super) async fn entries(
    shared: &Arc<Shared>,
    snapshot: &Snapshot,
    place: &Place<'_>,
) -> Vec<Value> {
    let document = snapshot.document.clone();
    if document.tree.as_ref().is_none_or(|tree| !tree.is_current()) {
        return Vec::new();
    }
    let lines = place.lines.clone();
    let seek = tokio::task::spawn_blocking(move || found(&document, lines));
    // Who asks for rewrites alone waits for the rules to be compiled; that is once for each language.
    let late = match place.params.asks_only(REWRITE) {
        true => place.late + READING,
        false => place.late,
    };
    let Ok(Ok(mut all)) = tokio::time::timeout_at(late, seek).await else { return Vec::new() };
    all.retain(|rewrite| touches(rewrite, &snapshot.document, place));
    all.sort_by_key(|rewrite| std::cmp::Reverse((rewrite.gain, rewrite.depth)));
    let remembered = |rewrite: &Rewrite| Remembered {
        uri: snapshot.document.uri.clone(),
        revision: snapshot.document.revision,
        rule: rewrite.rule.clone(),
        start: rewrite.place.start,
        end: rewrite.place.end,
    };
    let mut entries: Vec<Value> = all
        .iter()
        .take(MOST_OFFERS)
        .map(|rewrite| {
            let title = format!("nestling: {} — precondition holds, parses", rewrite.title);
            later(&title, REWRITE, &remembered(rewrite))
        })
        .collect();
    if let Some(first) = all.first()
        && shared.state.lock().is_initialized
    {
        let title = format!("nestling: prove “{}”: same results? faster?", first.title);
        let command = json!({ "title": title, "command": PROVE, "arguments": [remembered(first)] });
        entries.push(json!({ "title": title, "kind": REWRITE, "command": command }));
    }
    entries
}

fn found(document: &Document, within: std::ops::Range<usize>) -> Vec<Rewrite> {
    let Some(tree) = &document.tree else { return Vec::new() };
    rewrites(tree, &document.text, within, None)
}

/// Whether a menu at a place should offer a rewrite: the first line of its code is among the lines.
fn touches(rewrite: &Rewrite, document: &Document, place: &Place<'_>) -> bool {
    let line = document.text.line_range(document.text.line_of(rewrite.place.start));
    line.start < place.lines.end.max(place.lines.start + 1) && line.end >= place.lines.start
}

/// The rewrite that an entry remembers, if the document is still that one.
async fn remembered(shared: &Shared, data: &Remembered) -> Result<(Snapshot, Rewrite)> {
    let snapshot = recalled(shared, &data.uri, data.revision).await?;
    let all = found(&snapshot.document, data.start..data.end);
    let same =
        |rewrite: &Rewrite| rewrite.rule == data.rule && rewrite.place == (data.start..data.end);
    let rewrite = all.into_iter().find(same).ok_or_else(changed)?;
    Ok((snapshot, rewrite))
}

/// What a rewrite stands up to; with `effort` it is run, too.
async fn tried(
    shared: &Shared,
    snapshot: &Snapshot,
    rewrite: &Rewrite,
    effort: Option<Effort>,
    cancel: CancelToken,
) -> Evidence {
    let prepare = Trial::prepare(shared, snapshot);
    let (document, rewrite) = (snapshot.document.clone(), rewrite.clone());
    let climbed = tokio::task::spawn_blocking(move || {
        let trial = prepare();
        let mut notes = Vec::new();
        let overlay = trial
            .overlay
            .and_then(|overlay| overlay.map_err(|e| notes.push(format!("{e:#}"))).ok());
        let workshop = Workshop {
            overlays: overlay.as_ref().map(|overlay| [overlay, overlay]),
            name: &trial.name,
            checkers: &trial.checkers,
            check: trial.check.as_ref(),
            test: trial.test.as_ref(),
            bench: None,
            effort: effort.map(|effort| Effort { weakly: trial.is_trusted, ..effort }),
            cancel: &cancel,
        };
        let Some(tree) = &document.tree else { return Evidence::default() };
        let mut evidence = climb(tree, document.text.as_str(), &rewrite, &workshop);
        evidence.notes.extend(notes);
        evidence
    });
    climbed.await.unwrap_or_default()
}

/// Works an entry out that was chosen: its edit, if nothing speaks against it.
pub(super) async fn resolve(shared: &Arc<Shared>, mut action: Value) -> Result<Value> {
    let Ok(data) = serde_json::from_value::<Remembered>(action["data"].clone()) else {
        return Ok(action);
    };
    let (snapshot, rewrite) = remembered(shared, &data).await?;
    let evidence = tried(shared, &snapshot, &rewrite, None, CancelToken::new()).await;
    // It may have changed while it was checked.
    unchanged(shared, &data.uri, data.revision)?;
    if evidence.refused.is_some() {
        shared.client.show_message(lsp::MessageType::Info, format!("nestling: {evidence}")).await;
        return Ok(action);
    }
    let client = shared.state.lock().client.clone();
    let about = format!("{} {evidence}", rewrite.why);
    action["edit"] = edit(&snapshot.document, &client, &rewrite.edits, &about);
    Ok(action)
}

/// `nestling.prove`: climbs the whole ladder with one rewrite, tells what came of it, and asks whether to apply it.
pub(super) async fn prove(shared: &Arc<Shared>, arguments: &[Value]) -> Result<Value> {
    let data: Remembered =
        arguments.first().and_then(|data| serde_json::from_value(data.clone()).ok()).ok_or_else(
            || Error::invalid_params(format!("{PROVE} needs what its entry in the menu holds")),
        )?;
    let (snapshot, rewrite) = remembered(shared, &data).await?;
    // A proof that is begun ends the one before it.
    let cancel = CancelToken::new();
    std::mem::replace(&mut shared.state.lock().proof, cancel.clone()).cancel();
    let mut shown = None;
    if may_show(shared, TOKEN).await {
        let token = lsp::ProgressToken::from(TOKEN);
        let progress =
            shared.client.progress(token, format!("nestling: proving “{}”", rewrite.title));
        let progress = progress.with_message("both versions run on the same inputs");
        shown = Some(progress.with_cancel_button().begin().await);
    }
    let effort = Some(Effort::default());
    let evidence = tried(shared, &snapshot, &rewrite, effort, cancel.clone()).await;
    if let Some(shown) = shown {
        shown.finish_with_message(evidence.to_string()).await;
    }
    if cancel.is_cancelled() {
        return Ok(json!({ "title": rewrite.title, "cancelled": true }));
    }
    let document = snapshot.document.clone();
    let before = document.text.as_str();
    let after = apply(before, &rewrite.edits);
    let diff =
        similar::TextDiff::from_lines(before, &after).unified_diff().context_radius(3).to_string();
    let answer = json!({
        "title": rewrite.title,
        "evidence": evidence,
        "summary": evidence.to_string(),
        "faster": evidence.is_faster(),
        "diff": diff,
    });
    let (own, summary) = (shared.clone(), evidence.to_string());
    let refused = evidence.refused.is_some();
    shared.spawn(async move {
        let text = format!("nestling: {}: {summary}", rewrite.title);
        if refused {
            return own.client.show_message(lsp::MessageType::Info, text).await;
        }
        let choice = lsp::MessageActionItem { title: "Apply".into(), ..Default::default() };
        let asked =
            own.client.show_message_request(lsp::MessageType::Info, text, Some(vec![choice])).await;
        if !matches!(asked, Ok(Some(chosen)) if chosen.title == "Apply")
            || unchanged(&own, &data.uri, data.revision).is_err()
        {
            return;
        }
        let client = own.state.lock().client.clone();
        let change = edit(&document, &client, &rewrite.edits, &summary);
        if let Ok(change) = serde_json::from_value(change)
            && let Err(error) = own.client.apply_edit(change).await
        {
            tracing::warn!("the rewrite was not applied: {error}");
        }
    });
    Ok(answer)
}

/// Compiles the rules that may apply to a document, so that no menu has to wait for them.
pub(super) fn warm_up(document: &Document) {
    found(document, 0..document.text.len());
}

/// The rewrites of a document as hints.
pub(super) fn hints(document: &Document, encoding: PositionEncoding) -> Vec<Value> {
    const MOST: usize = 50;
    if document.tree.as_ref().is_none_or(|tree| !tree.is_current()) {
        return Vec::new();
    }
    let hint = |rewrite: &Rewrite| {
        let line = document.text.line_range(document.text.line_of(rewrite.place.start));
        let range = rewrite.place.start..rewrite.place.end.min(line.end).max(rewrite.place.start);
        json!({
            "range": to_proto::range(document, &range, encoding),
            "severity": 4,
            "source": "nestling",
            "code": rewrite.rule,
            "message": format!("{}: {}", rewrite.title, rewrite.why),
        })
    };
    found(document, 0..document.text.len()).iter().take(MOST).map(hint).collect()
}
