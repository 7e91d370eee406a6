//! Quick fixes. The menu gets what is known at once: repairs of broken syntax that parse, and for each problem that
//! some server reported an entry that is worked out when it is chosen. What is offered says what was proven about it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc::Result;

use super::actions::{
    FIX_ALL, Place, QUICK_FIX, Trial, changed, edit, later, name_of, project_of, recalled, root_of,
    whole_lines,
};
use super::shared::Shared;
use super::{aside, from_proto, to_proto};
use crate::check::{Checker, Diagnostic, Ended, Overlay, Program, Span};
use crate::generation::CancelToken;
use crate::suggest::repair::{Ask, Check, Fixing, Proposal, proposals, validated};
use crate::text::{PositionEncoding, Text, apply, minimal_edit, short};
use crate::workspace::{Document, Snapshot};

/// Time to make proposals for broken syntax, and for what somebody reported.
const SYNTAX: Duration = Duration::from_millis(260);
const REPORTED: Duration = Duration::from_millis(1500);
/// Time to validate one.
const VALIDATION: Duration = Duration::from_secs(20);
const QUICK_CHECK: Duration = Duration::from_secs(5);
const MOST_OFFERS: usize = 3;
const INTERRUPTED: &str = "what is being typed came first; choose it again";
/// Repairs one after the other of one file.
const MOST_REPAIRS: usize = 30;

/// Proposals for a place of a document as it was: they are made once.
struct Known {
    uri: String,
    revision: u64,
    within: Range<usize>,
    found: Vec<Proposal>,
    /// The checker that has nothing against the text with the first of them.
    checked: Option<&'static str>,
}

impl Known {
    fn is_of(&self, document: &Document, within: &Range<usize>) -> bool {
        self.uri == document.uri && self.revision == document.revision && self.within == *within
    }
}

/// The last ones.
#[derive(Default)]
pub(super) struct Repairs(Vec<Known>);

impl Repairs {
    const MOST: usize = 16;

    fn get(&self, document: &Document, within: &Range<usize>) -> Option<Offers> {
        let known = self.0.iter().find(|known| known.is_of(document, within))?;
        Some(Offers { found: known.found.clone(), checked: known.checked })
    }

    /// Forgets what is known of a document: opened again, it counts its revisions anew.
    pub(super) fn forget(&mut self, uri: &str) {
        self.0.retain(|known| known.uri != uri);
    }

    fn put(&mut self, document: &Document, within: Range<usize>, found: Vec<Proposal>) {
        // Those of an older text are of no use any more.
        self.0.retain(|known| {
            known.uri != document.uri
                || known.revision == document.revision && known.within != within
        });
        self.0.truncate(Self::MOST - 1);
        let (uri, revision) = (document.uri.clone(), document.revision);
        self.0.insert(0, Known { uri, revision, within, found, checked: None });
    }

    fn checked(&mut self, document: &Document, within: &Range<usize>, by: &'static str) {
        if let Some(known) = self.0.iter_mut().find(|known| known.is_of(document, within)) {
            known.checked = Some(by);
        }
    }
}

/// Repairs for a menu.
#[derive(Default)]
struct Offers {
    found: Vec<Proposal>,
    checked: Option<&'static str>,
}

/// What an entry that is worked out later remembers.
#[derive(Deserialize, serde::Serialize)]
struct Remembered {
    uri: String,
    revision: u64,
    start: usize,
    end: usize,
    message: Option<String>,
    code: Option<String>,
    all: bool,
}

/// The entries of a menu that repair something near `lines`.
pub(super) async fn entries(
    shared: &Arc<Shared>,
    snapshot: &Snapshot,
    place: &Place<'_>,
) -> Vec<Value> {
    let Place { params, client, lines, late } = place;
    let (document, encoding) = (snapshot.document.clone(), client.encoding);
    let text = &document.text;
    let tree = document.tree.as_ref().filter(|tree| tree.is_current());
    let faults = tree.map(|tree| tree.faults()).unwrap_or_default();
    let near = |range: &Range<usize>| range.start <= lines.end && range.end >= lines.start;
    let mut entries = Vec::new();
    let reported = own_diagnostics(&params.context.diagnostics);
    if params.wants(QUICK_FIX)
        && let Some(fault) = faults.iter().find(|fault| near(&fault.range))
    {
        let within = fault.range.start.min(lines.start)..fault.range.end.max(lines.end);
        match syntax_repairs(shared, snapshot, within.clone(), *late).await {
            Some(Offers { found, checked }) => {
                let errors = tree.map_or(0, |tree| tree.error_count(0..text.len()));
                let offers = found.iter().filter(|proposal| proposal.errors < errors);
                for (rank, proposal) in offers.take(MOST_OFFERS).enumerate() {
                    let checked = checked.filter(|_| rank == 0);
                    let proof = match (proposal.errors, checked) {
                        (0, Some(by)) => format!("parses, {by} is content"),
                        (0, None) => "parses".to_string(),
                        (left, _) => format!("{left} syntax errors left"),
                    };
                    let edit = edit(&document, client, &proposal.edits, &proof);
                    let mut entry = json!({
                        "title": format!("nestling: {} — {proof}", proposal.title),
                        "kind": QUICK_FIX,
                        "diagnostics": reported,
                        "edit": edit,
                    });
                    if checked.is_some() && !proposal.only_deletes() {
                        entry["isPreferred"] = true.into();
                    }
                    entries.push(entry);
                }
            }
            // Still being worked out: when it is chosen, it is there.
            None => entries.push(later(
                "nestling: repair the syntax error here",
                QUICK_FIX,
                &remembered(&document, within, None, false),
            )),
        }
    }
    if params.wants(QUICK_FIX) {
        let others = params.context.diagnostics.iter().filter(|d| d["source"] != "nestling");
        for diagnostic in others.take(MOST_OFFERS) {
            let Ok(range) = serde_json::from_value::<lsp::Range>(diagnostic["range"].clone())
            else {
                continue;
            };
            let range = from_proto::range(range);
            let range = text.offset(range.start, encoding)..text.offset(range.end, encoding);
            // Where the syntax is broken, its repair is offered above.
            let lines = whole_lines(text, &range);
            if faults.iter().any(|f| f.range.start <= lines.end && f.range.end >= lines.start) {
                continue;
            }
            let message = diagnostic["message"].as_str().unwrap_or_default();
            let title = format!("nestling: seek a repair of “{}”", short(message, 60));
            let mut remembered = remembered(&document, range, Some(message), false);
            remembered.code = match &diagnostic["code"] {
                Value::String(code) => Some(code.clone()),
                Value::Number(code) => Some(code.to_string()),
                _ => None,
            };
            let mut entry = later(&title, QUICK_FIX, &remembered);
            entry["diagnostics"] = json!([diagnostic]);
            entries.push(entry);
        }
    }
    if params.wants(FIX_ALL) && !faults.is_empty() {
        entries.push(later(
            "nestling: repair all syntax errors of the file",
            FIX_ALL,
            &remembered(&document, 0..text.len(), None, true),
        ));
    }
    entries
}

/// Diagnostics that we published and that an entry is about.
fn own_diagnostics(diagnostics: &[Value]) -> Vec<&Value> {
    diagnostics.iter().filter(|diagnostic| diagnostic["source"] == "nestling").collect()
}

fn remembered(
    document: &Document,
    within: Range<usize>,
    message: Option<&str>,
    all: bool,
) -> Remembered {
    Remembered {
        uri: document.uri.clone(),
        revision: document.revision,
        start: within.start,
        end: within.end,
        message: message.map(String::from),
        code: None,
        all,
    }
}

/// Repairs of broken syntax: known ones, or those that are made within the menu's patience. What takes longer goes on,
/// for the next time.
async fn syntax_repairs(
    shared: &Arc<Shared>,
    snapshot: &Snapshot,
    within: Range<usize>,
    late: tokio::time::Instant,
) -> Option<Offers> {
    let known = shared.state.lock().repairs.get(&snapshot.document, &within);
    if known.is_some() {
        return known;
    }
    let (sender, receiver) = oneshot::channel();
    let (own, snapshot) = (shared.clone(), snapshot.clone());
    shared.spawn(async move {
        let document = snapshot.document.clone();
        let Some(found) = propose(&own, snapshot, within.clone(), None, SYNTAX).await else {
            return;
        };
        {
            let mut state = own.state.lock();
            let now = state.documents.get(&document.uri);
            if now.is_none_or(|now| !now.text.is_same(&document.text)) {
                return;
            }
            state.repairs.put(&document, within.clone(), found.clone());
        }
        let first = found.first().filter(|proposal| proposal.errors == 0).cloned();
        let _ = sender.send(Offers { found, checked: None });
        // For the next menu: whether a checker is content, too.
        let Some(first) = first else { return };
        let checking = document.clone();
        let by = tokio::task::spawn_blocking(move || content(&checking, &first)).await;
        if let Ok(Some(by)) = by {
            own.state.lock().repairs.checked(&document, &within, by);
        }
    });
    tokio::time::timeout_at(late, receiver).await.ok()?.ok()
}

/// A checker of single files that runs no code and finds no error in a document after a repair.
fn content(document: &Document, repair: &Proposal) -> Option<&'static str> {
    let path = document.path.as_deref()?;
    let mut checkers = Checker::of(path.parent()?, document.language?.name);
    checkers.retain(|checker| checker.project.is_none() && !checker.runs_code);
    let checker = checkers.first()?;
    let overlay = Overlay::of_file(path, None).ok()?;
    let name = path.file_name()?.to_str()?;
    overlay.write(name, &apply(document.text.as_str(), &repair.edits)).ok()?;
    let found = overlay.check(checker, name, QUICK_CHECK, &|| true).ok()?;
    found.iter().all(|diagnostic| !diagnostic.is_error).then_some(checker.name)
}

/// Proposals by the engine, or by the parser alone while there is no model. `None` if there was no time for all of them:
/// what is being typed comes first.
async fn propose(
    shared: &Arc<Shared>,
    snapshot: Snapshot,
    within: Range<usize>,
    diagnostic: Option<Diagnostic>,
    limit: Duration,
) -> Option<Vec<Proposal>> {
    let root = root_of(shared, &snapshot.document);
    let name = name_of(root.as_deref(), &snapshot.document);
    let document = snapshot.document.clone();
    let found = aside::ask(shared, &document, move |completer, cancel| {
        let diagnostic = diagnostic.as_ref();
        let ask = Ask { snapshot: &snapshot, name: &name, within, diagnostic, limit, writes: true };
        let found = match completer {
            Some(completer) => completer.proposals(&ask, cancel),
            None => proposals(None, &ask, cancel),
        };
        (!cancel.is_cancelled()).then_some(found)
    });
    found.await.flatten()
}

/// Works an entry out that was chosen.
pub(super) async fn resolve(shared: &Arc<Shared>, mut action: Value) -> Result<Value> {
    let Ok(data) = serde_json::from_value::<Remembered>(action["data"].clone()) else {
        return Ok(action);
    };
    let snapshot = recalled(shared, &data.uri, data.revision).await?;
    let document = snapshot.document.clone();
    let within = data.start.min(document.text.len())..data.end.min(document.text.len());
    let repaired = match &data.message {
        Some(message) => reported(shared, snapshot, within, message, data.code.clone()).await,
        None => syntax(shared, snapshot, within, data.all).await,
    };
    let (text, evidence) = match repaired {
        Ok(found) => found,
        Err(reason) => {
            shared.client.show_message(lsp::MessageType::Info, format!("nestling: {reason}")).await;
            return Ok(action);
        }
    };
    let (now, client) = {
        let state = shared.state.lock();
        (state.documents.get(&data.uri).map(|now| now.revision), state.client.clone())
    };
    if now != Some(data.revision) {
        return Err(changed());
    }
    if let Some(change) = minimal_edit(document.text.as_str(), &text) {
        action["edit"] = edit(&document, &client, &[change], &evidence);
        shared.client.show_message(lsp::MessageType::Info, format!("nestling: {evidence}")).await;
    }
    Ok(action)
}

/// The text without syntax errors, as far as single changes go; all of them or the first.
async fn syntax(
    shared: &Arc<Shared>,
    snapshot: Snapshot,
    within: Range<usize>,
    all: bool,
) -> std::result::Result<(String, String), String> {
    let mut now = snapshot.clone();
    let mut done = 0;
    for _ in 0..if all { MOST_REPAIRS } else { 1 } {
        let document = now.document.clone();
        let Some(tree) = &document.tree else { break };
        let errors = tree.error_count(0..document.text.len());
        if errors == 0 {
            break;
        }
        let place = if all { 0..document.text.len() } else { within.clone() };
        let found = propose(shared, now.clone(), place, None, SYNTAX).await.ok_or(INTERRUPTED)?;
        let Some(best) = found.into_iter().find(|proposal| proposal.errors < errors) else { break };
        let mut next = (*document).clone();
        next.text = Text::new(apply(document.text.as_str(), &best.edits));
        next.tree = None;
        next.catch_up();
        now = Snapshot { document: next.into(), ..now };
        done += 1;
    }
    if done == 0 {
        return Err("no single change repairs the syntax here".into());
    }
    let left = now.document.tree.as_ref().map_or(0, |t| t.error_count(0..now.document.text.len()));
    if all && left > 0 {
        // Whoever repairs all on saving does not look at each.
        return Err(format!("{left} syntax errors are left that no single change repairs"));
    }
    let proof = if left == 0 { "parses".into() } else { format!("{left} syntax errors left") };
    Ok((now.document.text.as_str().into(), proof))
}

/// The text with a repair of what somebody reported, checked on a copy where a checker may be run.
async fn reported(
    shared: &Arc<Shared>,
    snapshot: Snapshot,
    within: Range<usize>,
    message: &str,
    code: Option<String>,
) -> std::result::Result<(String, String), String> {
    let document = snapshot.document.clone();
    let project = project_of(shared, &document);
    let name = name_of(project.as_deref(), &document);
    let place = |at: usize| {
        let position = document.text.position(at, PositionEncoding::Utf32);
        (position.line as usize, position.character as usize)
    };
    let span = Span { start: place(within.start), end: place(within.end) };
    let diagnostic = Diagnostic {
        path: name.clone(),
        span,
        is_error: true,
        code,
        message: message.to_string(),
        suggestions: Vec::new(),
    };
    let lines = whole_lines(&document.text, &within);
    let prepare = Trial::prepare(shared, &snapshot);
    let found = propose(shared, snapshot, lines, Some(diagnostic.clone()), REPORTED).await;
    let found = found.ok_or(INTERRUPTED)?;
    let wanted = Wanted(CancelToken::new());
    let cancel = wanted.0.clone();
    let validate = move || {
        let Trial { overlay, checkers, check, test, withheld, .. } = prepare();
        // Where nobody can say more than the parser.
        let text = document.text.clone();
        let guess = |found: Vec<Proposal>, why: &str| {
            let best = found.into_iter().find(|proposal| !proposal.only_deletes());
            let best = best.ok_or("nothing was found that parses")?;
            let text = apply(text.as_str(), &best.edits);
            let proof = if best.errors == 0 { "parses" } else { "no new syntax error" };
            Ok((text, format!("{} — {proof}; {why}", best.title)))
        };
        let Some(overlay) = overlay else {
            let why = withheld.map_or("nothing here can check more".into(), |checker| {
                format!(
                    "{checker} could check more in a workspace that is trusted (nestling trust)"
                )
            });
            return guess(found, &why);
        };
        let overlay = overlay.map_err(|error| format!("{error:#}"))?;
        let own = check.as_ref().map(Check::Own);
        let checks: Vec<Check<'_>> =
            own.into_iter().chain(checkers.into_iter().map(Check::Known)).collect();
        let fixing = Fixing {
            overlay: &overlay,
            name: &name,
            checks: &checks,
            test: None,
            within: None,
            limit: VALIDATION,
            cancel: &cancel,
        };
        match validated(&document, &fixing, &diagnostic, found.clone()) {
            Ok(Some((proposal, evidence))) => {
                let text = apply(document.text.as_str(), &proposal.edits);
                let tested = match &test {
                    Some(test) => tested(&overlay, &name, &text, test, &cancel),
                    None => String::new(),
                };
                Ok((text, format!("{} — {evidence}{tested}", proposal.title)))
            }
            Ok(None) => Err("no repair was found that the checks accept".to_string()),
            Err(error) => guess(found, &format!("{error:#}")),
        }
    };
    tokio::task::spawn_blocking(validate).await.map_err(|error| error.to_string())?
}

/// Ends what is being checked when the request is withdrawn.
struct Wanted(CancelToken);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What the tests say of a text, in words to add.
fn tested(
    overlay: &Overlay,
    name: &str,
    text: &str,
    test: &Program,
    cancel: &CancelToken,
) -> String {
    let is_wanted = || !cancel.is_cancelled();
    let done = overlay.write(name, text).and_then(|()| overlay.run(test, VALIDATION, &is_wanted));
    match done.map(|done| done.end) {
        Ok(Ended::Itself(true)) => ", tests pass".into(),
        Ok(Ended::Itself(false)) => ", but the tests fail".into(),
        Ok(_) => format!(", the tests took more than {} s", VALIDATION.as_secs()),
        Err(error) => format!(", the tests could not be run: {error:#}"),
    }
}

/// The syntax errors of a document as hints, for languages without a server of their own.
pub(super) fn hints(document: &Document, encoding: PositionEncoding) -> Vec<Value> {
    const MOST: usize = 20;
    let tree = document.tree.as_ref().filter(|tree| tree.is_current());
    let faults = tree.map(|tree| tree.faults()).unwrap_or_default();
    let hint = |fault: &crate::syntax::Fault| {
        let message = match &fault.missing {
            Some(missing) => format!("`{missing}` is missing here"),
            None => "this does not fit here".to_string(),
        };
        // Of a long error, its first line.
        let line = document.text.line_of(fault.range.start);
        let end = fault.range.end.min(document.text.line_range(line).end);
        let range = fault.range.start..end.max(fault.range.start);
        json!({
            "range": to_proto::range(document, &range, encoding),
            "severity": 4,
            "source": "nestling",
            "message": message,
        })
    };
    faults.iter().take(MOST).map(hint).collect()
}
