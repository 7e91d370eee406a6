//! Code actions: the menu of a place and what is done when an entry is chosen. What there is to offer, `repair` and
//! `optimize` know; here is what they share.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc::{Error, ErrorCode, Result};

use super::capabilities::ClientTraits;
use super::shared::Shared;
use super::{document, from_proto, optimize, repair, to_proto};
use crate::check::{Checker, Overlay, Program};
use crate::memory::walk;
use crate::store::checks_folder;
use crate::text::{Text, TextEdit};
use crate::workspace::{Document, Snapshot};

pub(super) const QUICK_FIX: &str = "quickfix";
pub(super) const FIX_ALL: &str = "source.fixAll.nestling";
pub(super) const REWRITE: &str = "refactor.rewrite";

/// The menu waits no longer for what is being worked out.
const MENU: Duration = Duration::from_millis(70);
const ANNOTATION: &str = "nestling";
/// Larger files are not looked at.
const MOST_BYTES: usize = 1 << 20;

/// `textDocument/codeAction`, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ActionParams {
    text_document: lsp::TextDocumentIdentifier,
    range: lsp::Range,
    pub(super) context: ActionContext,
}

#[derive(Deserialize)]
pub(super) struct ActionContext {
    #[serde(default)]
    pub(super) diagnostics: Vec<Value>,
    only: Option<Vec<String>>,
}

impl ActionParams {
    /// Whether nothing but what belongs to a kind, or to one that it belongs to, is wanted.
    pub(super) fn asks_only(&self, kind: &str) -> bool {
        let family = kind.split('.').next().unwrap_or(kind);
        let only = self.context.only.as_deref().unwrap_or_default();
        !only.is_empty() && only.iter().all(|wanted| wanted.split('.').next() == Some(family))
    }

    /// Whether a kind is wanted: it or one that it belongs to is named, or none at all.
    pub(super) fn wants(&self, kind: &str) -> bool {
        self.context.only.as_ref().is_none_or(|only| {
            only.iter().any(|wanted| kind == wanted || kind.starts_with(&format!("{wanted}.")))
        })
    }
}

/// Where a menu opens, for whom, and how long it may take.
pub(super) struct Place<'a> {
    pub(super) params: &'a ActionParams,
    pub(super) client: &'a ClientTraits,
    /// The whole lines.
    pub(super) lines: Range<usize>,
    pub(super) late: tokio::time::Instant,
}

/// The entries for a place.
pub(super) async fn actions(shared: &Arc<Shared>, params: ActionParams) -> Result<Value> {
    let late = tokio::time::Instant::now() + MENU;
    let (snapshot, client) = {
        let mut state = shared.state.lock();
        let Some(snapshot) = state.documents.snapshot(&params.text_document.uri.0) else {
            return Err(Error::invalid_params(format!(
                "the document is not open: {}",
                params.text_document.uri.0
            )));
        };
        let language = snapshot.document.language.map(|language| language.name);
        if !state.config.is_enabled_for(language) {
            return Ok(json!([]));
        }
        // Another server speaks for this language: hints would say the same twice.
        let others = params.context.diagnostics.iter().any(|d| d["source"] != "nestling");
        if let Some(language) = language.filter(|_| others)
            && state.spoken_for.insert(language)
        {
            let hinted: Vec<String> = state.hinted.iter().cloned().collect();
            hinted.iter().for_each(|uri| shared.hint_later(&state, uri, Duration::ZERO));
        }
        (snapshot, state.client.clone())
    };
    let encoding = client.encoding;
    let parsed = tokio::time::timeout_at(late, caught_up(snapshot.clone())).await;
    let snapshot = parsed.unwrap_or(snapshot);
    let text = &snapshot.document.text;
    if text.len() > MOST_BYTES {
        return Ok(json!([]));
    }
    let asked = from_proto::range(params.range);
    let asked = text.offset(asked.start, encoding)..text.offset(asked.end, encoding);
    let lines = whole_lines(text, &asked);
    let place = Place { params: &params, client: &client, lines, late };
    let mut entries = repair::entries(shared, &snapshot, &place).await;
    if params.wants(REWRITE) {
        entries.extend(optimize::entries(shared, &snapshot, &place).await);
    }
    if params.wants(document::DOCUMENT) {
        entries.extend(document::entry(&snapshot, &place));
    }
    // Chosen in such a client, an entry without its edit would do nothing.
    if !client.resolves_actions {
        entries.retain(|entry| entry.get("data").is_none() || entry.get("edit").is_some());
    }
    Ok(Value::Array(entries))
}

/// A snapshot whose parser has caught up with the last keys, if it can.
async fn caught_up(mut snapshot: Snapshot) -> Snapshot {
    if snapshot.document.is_stale() {
        let mut copy = (*snapshot.document).clone();
        let parse = tokio::task::spawn_blocking(move || copy.catch_up().then_some(copy));
        if let Ok(Some(parsed)) = parse.await {
            snapshot.document = parsed.into();
        }
    }
    snapshot
}

/// The document that an entry remembers, if its text is still that one.
pub(super) fn unchanged(shared: &Shared, uri: &str, revision: u64) -> Result<Snapshot> {
    let snapshot = shared.state.lock().documents.snapshot(uri);
    snapshot.filter(|snapshot| snapshot.document.revision == revision).ok_or_else(changed)
}

/// The same with its parse, if there can be one.
pub(super) async fn recalled(shared: &Shared, uri: &str, revision: u64) -> Result<Snapshot> {
    Ok(caught_up(unchanged(shared, uri, revision)?).await)
}

/// An entry that is worked out when it is chosen.
pub(super) fn later(title: &str, kind: &str, data: &impl serde::Serialize) -> Value {
    json!({ "title": title, "kind": kind, "data": data })
}

pub(super) fn whole_lines(text: &Text, range: &Range<usize>) -> Range<usize> {
    let (first, last) = (text.line_of(range.start), text.line_of(range.end));
    text.line_range(first).start..text.line_range(last).end
}

/// A workspace edit of one document as it is now: a client that has another version refuses it.
pub(super) fn edit(
    document: &Document,
    client: &ClientTraits,
    edits: &[TextEdit],
    evidence: &str,
) -> Value {
    let edits: Vec<Value> = edits
        .iter()
        .map(|edit| {
            let range = to_proto::range(document, &edit.range, client.encoding);
            let mut edit = json!({ "range": range, "newText": edit.new_text });
            // Some clients that take both take no words about edits without versions.
            if client.takes_versions && client.takes_annotations {
                edit["annotationId"] = ANNOTATION.into();
            }
            edit
        })
        .collect();
    if !client.takes_versions {
        return json!({ "changes": { &document.uri: edits } });
    }
    let identifier = json!({ "uri": document.uri, "version": document.version });
    let mut edit = json!({ "documentChanges": [{ "textDocument": identifier, "edits": edits }] });
    if client.takes_annotations {
        let about = json!({ "label": "nestling", "description": evidence });
        edit["changeAnnotations"] = json!({ ANNOTATION: about });
    }
    edit
}

/// Works an entry out that was chosen.
pub(super) async fn resolve(shared: &Arc<Shared>, action: Value) -> Result<Value> {
    let data = &action["data"];
    match (data["rule"].is_string(), data["comment"].is_number()) {
        (true, _) => optimize::resolve(shared, action).await,
        (_, true) => document::resolve(shared, action).await,
        _ => repair::resolve(shared, action).await,
    }
}

/// The answer to a question about a text that is not there any more.
pub(super) fn changed() -> Error {
    Error {
        code: ErrorCode::ContentModified,
        message: "the text has changed since".into(),
        data: None,
    }
}

/// A copy on which commands may work, and which of them may be run.
pub(super) struct Trial {
    pub(super) overlay: Option<anyhow::Result<Overlay>>,
    pub(super) name: String,
    pub(super) checkers: Vec<&'static Checker>,
    /// A checker that is not run, because nobody said that the workspace is to be trusted.
    pub(super) withheld: Option<&'static str>,
    pub(super) check: Option<Program>,
    pub(super) test: Option<Program>,
    pub(super) is_trusted: bool,
}

impl Trial {
    /// What a document can be tried with. Commands run only in a workspace that is trusted; what stands in other windows
    /// counts as it stands there, saved or not. Copying takes its time: not for handlers.
    pub(super) fn prepare(
        shared: &Shared,
        snapshot: &Snapshot,
    ) -> impl FnOnce() -> Trial + Send + use<> {
        let document = snapshot.document.clone();
        let is_trusted = root_of(shared, &document).is_some_and(|root| is_trusted(shared, &root));
        let root = project_of(shared, &document);
        let name = name_of(root.as_deref(), &document);
        let (check, test) = {
            let config = &shared.state.lock().config;
            let command = |line: &String| {
                (is_trusted && !line.is_empty()).then(|| Program::Shell(line.clone()))
            };
            (command(&config.check), command(&config.test))
        };
        let others = snapshot.others.clone();
        move || {
            let language = document.language.map_or("", |language| language.name);
            let folder =
                root.clone().or_else(|| Some(document.path.as_deref()?.parent()?.to_path_buf()));
            let mut checkers = match check {
                Some(_) => Vec::new(),
                None => folder.map(|root| Checker::of(&root, language)).unwrap_or_default(),
            };
            let withheld = checkers.iter().find(|checker| checker.runs_code && !is_trusted);
            let withheld = withheld.map(|checker| checker.name);
            checkers.retain(|checker| is_trusted || !checker.runs_code);
            let overlay = match (&root, &document.path) {
                _ if checkers.is_empty() && check.is_none() && test.is_none() => None,
                (Some(root), _) => Some(Overlay::of_project(root, checks_folder(root).as_deref())),
                (None, Some(path)) => Some(Overlay::of_file(path, None)),
                _ => None,
            };
            if let Some(Ok(overlay)) = &overlay {
                let below =
                    |other: &Document| walk::name_below(overlay.root(), other.path.as_deref()?);
                for other in &others {
                    if let Some(name) =
                        below(other).filter(|name| overlay.path().join(name).is_file())
                        && let Err(error) = overlay.write(&name, other.text.as_str())
                    {
                        tracing::warn!("{error:#}");
                    }
                }
            }
            Trial { overlay, name, checkers, withheld, check, test, is_trusted }
        }
    }
}

/// The folder of the workspace that a document belongs to.
pub(super) fn root_of(shared: &Shared, document: &Document) -> Option<PathBuf> {
    let path = document.path.as_deref()?;
    let state = shared.state.lock();
    let roots = state.client.roots.iter().filter(|root| path.starts_with(root));
    roots.max_by_key(|root| root.as_os_str().len()).cloned()
}

/// Whether commands may run in a workspace.
fn is_trusted(shared: &Shared, root: &Path) -> bool {
    let store = shared.options.store.as_ref();
    shared.state.lock().config.trusted
        && store.is_some_and(|store| store.workspace(root).is_trusted())
}

/// The project in it with which a document is checked: the folder of the workspace for the user's own commands.
pub(super) fn project_of(shared: &Shared, document: &Document) -> Option<PathBuf> {
    let root = root_of(shared, document)?;
    let has_commands = is_trusted(shared, &root) && {
        let config = &shared.state.lock().config;
        !config.check.is_empty() || !config.test.is_empty()
    };
    let nested = document.path.as_deref().zip(document.language);
    let nested = nested
        .filter(|_| !has_commands)
        .and_then(|(path, language)| Checker::project_root(path, &root, language.name));
    Some(nested.unwrap_or(root))
}

pub(super) fn name_of(root: Option<&Path>, document: &Document) -> String {
    let path = document.path.as_deref().unwrap_or(Path::new(&document.uri));
    let below = root.and_then(|root| walk::name_below(root, path));
    below.unwrap_or_else(|| {
        path.file_name().map_or(document.uri.clone(), |name| name.to_string_lossy().into_owned())
    })
}
