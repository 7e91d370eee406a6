//! `nestling.chat`: a question about the workspace. What there is for it is sought beside the handlers; a remote model is
//! asked there, too, and the model of this machine in the engine, where an answer gives way to whatever is typed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc::{Error, ErrorCode, Result};

use super::commands::CHAT;
use super::engine::ModelState;
use super::shared::Shared;
use super::watch::may_show;
use super::{from_proto, to_proto};
use crate::chat::{Answer, Found, Named, Reply, Repository, Role, Source, Turn, ask_remote};
use crate::generation::CancelToken;
use crate::memory::KeeperState;
use crate::suggest::{Completer, Completion, CompletionRequest, Progress, Silence};
use crate::text::PositionEncoding;
use crate::workspace::{Document, holds_secret, uri_of_path};

/// A question waits no longer for the folders to be read.
const READING: Duration = Duration::from_secs(5);
/// The token of its progress, where the client names none.
const TOKEN: &str = "nestling/chat";

/// What is asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    /// What was said so far, the question last.
    messages: Vec<Turn>,
    /// A document that it is about.
    text_document: Option<lsp::TextDocumentIdentifier>,
    /// What is selected in it.
    range: Option<lsp::Range>,
    /// Where the text is told piece by piece, as `{"text": …}`.
    partial_result_token: Option<lsp::ProgressToken>,
}

/// An answer that the engine makes, as long as nothing else is to be done.
pub(super) struct ChatJob {
    answer: Answer,
    pieces: mpsc::UnboundedSender<String>,
    cancel: CancelToken,
    outcome: oneshot::Sender<std::result::Result<Reply, String>>,
}

impl ChatJob {
    /// Goes on until it is done, or `pause` is set: then it comes back.
    pub(super) fn go_on(
        mut self,
        completer: &mut dyn Completer,
        pause: &CancelToken,
    ) -> Option<ChatJob> {
        let mut hear = |piece: &str| _ = self.pieces.send(piece.to_string());
        let done = match self.cancel.is_cancelled() {
            true => Ok(true),
            false => self.answer.go_on(completer, &mut hear, pause),
        };
        let outcome = match done {
            Ok(false) if !self.cancel.is_cancelled() => return Some(self),
            Ok(_) => Ok(self.answer.reply()),
            Err(reason) => Err(reason),
        };
        // Nobody may want it any more.
        let _ = self.outcome.send(outcome);
        None
    }
}

/// Ends an answer, whatever becomes of the request.
struct Wanted {
    shared: Arc<Shared>,
    cancel: CancelToken,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        stop(&self.shared, &self.cancel);
    }
}

/// The answer that is being made, and the token under which the client knows it.
#[derive(Default)]
pub(super) struct Current {
    token: Option<lsp::ProgressToken>,
    cancel: CancelToken,
}

/// Ends the answer whose progress has that token.
pub(super) fn cancelled(shared: &Shared, token: &lsp::ProgressToken) {
    let cancel = {
        let current = &shared.state.lock().chat;
        (current.token.as_ref() == Some(token)).then(|| current.cancel.clone())
    };
    cancel.iter().for_each(|cancel| stop(shared, cancel));
}

fn stop(shared: &Shared, cancel: &CancelToken) {
    cancel.cancel();
    if let Some(engine) = &shared.state.lock().engine {
        engine.pause_chat();
    }
}

/// Answers; a question that is asked ends the answer before it.
pub(super) async fn chat(
    shared: &Arc<Shared>,
    arguments: &[Value],
    work_done: Option<lsp::ProgressToken>,
) -> Result<Value> {
    let wrong = |reason: String| Error::invalid_params(format!("{CHAT}: {reason}"));
    let params: Params = match arguments.first() {
        Some(argument) => {
            serde_json::from_value(argument.clone()).map_err(|e| wrong(e.to_string()))?
        }
        None => {
            return Err(wrong(
                "needs {\"messages\": [{\"role\": \"user\", \"content\": …}]}".into(),
            ));
        }
    };
    let is_order = params.messages.last().is_some_and(|turn| turn.role == Role::User)
        && params.messages.iter().all(|turn| turn.role != Role::System);
    if !is_order {
        return Err(wrong(
            "messages are of the roles user and assistant, and the last one is the user's".into(),
        ));
    }
    let token = match (&work_done, &params.partial_result_token) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(_)) => None,
        (None, None) => may_show(shared, TOKEN).await.then(|| lsp::ProgressToken::from(TOKEN)),
    };
    let wanted = Wanted { shared: shared.clone(), cancel: CancelToken::new() };
    let current = Current { token: token.clone(), cancel: wanted.cancel.clone() };
    let before = std::mem::replace(&mut shared.state.lock().chat, current);
    stop(shared, &before.cancel);
    let mut shown = None;
    if let Some(token) = token {
        let progress = shared.client.progress(token, "nestling: answering").with_cancel_button();
        shown = Some(progress.begin().await);
    }
    let reply = answered(shared, params, &wanted.cancel).await;
    if let Some(shown) = shown {
        shown.finish().await;
    }
    let reply = reply.map_err(|reason| Error {
        code: ErrorCode::ServerError(-32803),
        message: reason.into(),
        data: None,
    })?;
    let open = open(shared);
    let sources = reply.sources.iter().map(|source| to_json(source, &open));
    Ok(json!({
        "text": reply.text,
        "by": reply.by,
        "sources": sources.collect::<Vec<_>>(),
        "notice": reply.notice,
        "cancelled": wanted.cancel.is_cancelled(),
    }))
}

async fn answered(
    shared: &Arc<Shared>,
    params: Params,
    cancel: &CancelToken,
) -> std::result::Result<Reply, String> {
    let Params { messages, text_document, range, partial_result_token } = params;
    let (pieces, mut heard) = mpsc::unbounded_channel::<String>();
    let told = shared.clone();
    let telling = async move {
        let mut some = Vec::new();
        while heard.recv_many(&mut some, 64).await > 0 {
            let text: String = some.drain(..).collect();
            if let Some(token) = &partial_result_token {
                let params =
                    lsp::ProgressParams { token: token.clone(), value: json!({ "text": text }) };
                told.client.send_notification::<lsp::ProgressNotification>(params).await;
            }
        }
    };
    let making = async move {
        let unread = unread(shared).await;
        let uri = text_document.map(|document| document.uri.0);
        let mut found = found(shared, &messages, uri, range).await?;
        found.left_out.extend(unread.map(String::from));
        made(shared, messages, found, pieces, cancel).await
    };
    tokio::join!(telling, making).1
}

/// Waits a little until the folders are read; what is to be said if they are not.
async fn unread(shared: &Shared) -> Option<&'static str> {
    let (mut index, has_folders) = {
        let state = shared.state.lock();
        (state.engine.as_ref()?.index(), !state.client.roots.is_empty())
    };
    let is_read = || {
        let state = shared.state.lock();
        state.engine.as_ref().is_none_or(|engine| matches!(engine.indexed(), KeeperState::Ready(_)))
    };
    let reading = async { while !is_read() && index.changed().await.is_ok() {} };
    let waited = !has_folders || tokio::time::timeout(READING, reading).await.is_ok();
    (!waited)
        .then_some("the workspace is still being read: ask again in a moment, and more is known")
}

/// What the workspace says to the question.
async fn found(
    shared: &Arc<Shared>,
    messages: &[Turn],
    uri: Option<String>,
    range: Option<lsp::Range>,
) -> std::result::Result<Found, String> {
    let (memories, open, document, encoding) = {
        let state = shared.state.lock();
        let memories = state.engine.as_ref().map(|engine| engine.memories()).unwrap_or_default();
        let document = uri.as_ref().map(|uri| state.documents.get(uri).cloned());
        (memories, state.documents.all(), document, state.client.encoding)
    };
    let question = messages.last().map(|turn| turn.content.clone()).unwrap_or_default();
    let document = match document {
        Some(None) => return Err(format!("the document is not open: {}", uri.unwrap_or_default())),
        Some(Some(document)) => Some(document),
        None => None,
    };
    let find = move || {
        let lines = document
            .as_ref()
            .zip(range)
            .and_then(|(document, range)| selected(document, range, encoding));
        let named = document
            .as_ref()
            .and_then(|document| Some(Named { path: document.path.clone()?, lines }));
        let repository = Repository::new(memories, open);
        let mut found = repository.find(&question, named.as_slice());
        // What is no file yet is no less meant.
        if let Some(document) = document.filter(|document| document.path.is_none()) {
            match unsaved(&document, lines) {
                Some(source) => found.sources.insert(0, source),
                None => found
                    .left_out
                    .push(format!("{} is left out: it may hold a key or a password", document.uri)),
            }
        }
        found
    };
    tokio::task::spawn_blocking(find).await.map_err(|error| error.to_string())
}

/// The selected lines, from 1; `None` where nothing is selected.
fn selected(
    document: &Document,
    range: lsp::Range,
    encoding: PositionEncoding,
) -> Option<(usize, usize)> {
    let range = from_proto::range(range);
    let text = &document.text;
    let (start, end) = (text.offset(range.start, encoding), text.offset(range.end, encoding));
    // A selection that ends before the first character of a line does not mean that line.
    (start < end).then(|| (text.line_of(start) + 1, text.line_of(end - 1) + 1))
}

fn unsaved(document: &Document, lines: Option<(usize, usize)>) -> Option<Source> {
    let text = &document.text;
    let lines = lines.unwrap_or((1, text.line_count()));
    let part = &text.as_str()[text.line_range(lines.0 - 1).start..text.line_range(lines.1 - 1).end];
    let source = Source {
        path: document.uri.clone(),
        file: None,
        lines,
        title: "text that is not saved".into(),
        text: part.into(),
    };
    (!holds_secret(part)).then_some(source)
}

/// Has the answer made: by the remote model, by the engine, or by the workspace alone.
async fn made(
    shared: &Arc<Shared>,
    messages: Vec<Turn>,
    found: Found,
    pieces: mpsc::UnboundedSender<String>,
    cancel: &CancelToken,
) -> std::result::Result<Reply, String> {
    let (remote, model) = {
        let state = shared.state.lock();
        let engine = state.engine.as_ref();
        (engine.and_then(|engine| engine.remote()), engine.map(|engine| engine.state()))
    };
    if let Some(client) = remote {
        let cancel = cancel.clone();
        let ask = move || {
            let mut hear = |piece: &str| _ = pieces.send(piece.to_string());
            ask_remote(&client, &messages, &found, &mut hear, &cancel)
        };
        return tokio::task::spawn_blocking(ask).await.map_err(|error| error.to_string())?;
    }
    let (outcome, receiver) = oneshot::channel();
    let job =
        ChatJob { answer: Answer::new(messages, found), pieces, cancel: cancel.clone(), outcome };
    let is_ready = match model {
        Some(mut model) => {
            let settled = model.wait_for(|state| *state != ModelState::Loading).await;
            settled.is_ok_and(|state| matches!(*state, ModelState::Ready))
        }
        None => false,
    };
    let alone = {
        let state = shared.state.lock();
        match state.engine.as_ref().filter(|_| is_ready) {
            Some(engine) => {
                engine.chat(job);
                None
            }
            None => Some(job),
        }
    };
    if let Some(job) = alone {
        job.go_on(&mut Nobody, &CancelToken::new());
    }
    receiver
        .await
        .unwrap_or_else(|_| Err("the model was changed or failed meanwhile: ask again".into()))
}

/// In place of a model that is switched off or cannot be loaded.
struct Nobody;

impl Completer for Nobody {
    fn complete(&mut self, _: &CompletionRequest, _: &Progress, _: &CancelToken) -> Completion {
        Completion::silent(Silence::ModelFailed)
    }
}

/// The open documents that are files, with the names that the client has for them.
fn open(shared: &Shared) -> Vec<(PathBuf, String)> {
    let all = shared.state.lock().documents.all();
    all.iter().filter_map(|document| Some((document.path.clone()?, document.uri.clone()))).collect()
}

fn to_json(source: &Source, open: &[(PathBuf, String)]) -> Value {
    let known =
        |file: &Path| open.iter().find(|(path, _)| path == file).map(|(_, uri)| uri.clone());
    let uri = match &source.file {
        Some(file) => known(file).unwrap_or_else(|| uri_of_path(file)),
        None => source.path.clone(),
    };
    let (from, to) = source.lines;
    json!({ "uri": uri, "range": to_proto::lines(from - 1..to), "title": source.title, "place": source.place() })
}
