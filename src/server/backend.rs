//! The routing table of the protocol, and the handlers behind it.
//! A handler translates and delegates; those that change state do it before their first await.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Value, json};
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc::{Error, Result};
use tower_lsp_server::{Client, ClientSocket, LanguageServer, LspService};

use super::actions::{self, ActionParams};
use super::capabilities::{ClientTraits, is_workspace};
use super::completion::{Answer, Ask, answer};
use super::shared::Shared;
use super::{
    ServeOptions, chat, commands, finetune, from_proto, optimize, parent, to_proto, watch,
};
use crate::config::MAX_ITEMS;
use crate::suggest::{Silence, Suggestion, Trigger};
use crate::workspace::{Document, path_of_uri};

/// The server as the protocol library sees it.
pub(super) struct Backend {
    pub(super) shared: Arc<Shared>,
}

/// Every method we answer. All others get `MethodNotFound`, and unknown notifications nothing.
pub(super) fn service(options: ServeOptions) -> (LspService<Backend>, ClientSocket) {
    let new = |client: Client| Backend { shared: Arc::new(Shared::new(client, options)) };
    LspService::build_with_lifecycle_methods(new)
        .custom_method("textDocument/didOpen", Backend::did_open)
        .custom_method("textDocument/didChange", Backend::did_change)
        .custom_method("textDocument/didSave", Backend::did_save)
        .custom_method("textDocument/didClose", Backend::did_close)
        .custom_method("textDocument/inlineCompletion", Backend::inline_completion)
        .custom_method("textDocument/completion", Backend::completion)
        .custom_method("textDocument/codeAction", Backend::code_action)
        .custom_method("codeAction/resolve", Backend::resolve_code_action)
        .custom_method("workspace/didChangeConfiguration", Backend::did_change_configuration)
        .custom_method("workspace/didChangeWatchedFiles", Backend::did_change_watched_files)
        .custom_method("workspace/didChangeWorkspaceFolders", Backend::did_change_folders)
        .custom_method("workspace/executeCommand", Backend::execute_command)
        .custom_method("window/workDoneProgress/cancel", Backend::cancel_progress)
        .custom_method("textDocument/didShowCompletion", Backend::did_show)
        .custom_method("textDocument/didPartiallyAcceptCompletion", Backend::did_accept_part)
        .custom_method("textDocument/didFocus", Backend::did_focus)
        .custom_method("nestling/status", Backend::status)
        .custom_method("nestling/text", Backend::text)
        .finish()
}

/// Those of them that take no parameters. Clients send null, `{}` or `[]` all the same.
pub(super) const WITHOUT_PARAMS: &[&str] = &["shutdown", "exit", "nestling/status"];

impl LanguageServer for Backend {
    async fn initialize(&self, params: lsp::InitializeParams) -> Result<lsp::InitializeResult> {
        let traits = ClientTraits::new(params);
        let reply = traits.reply();
        let (options, process_id) = (traits.options.clone(), traits.process_id);
        self.shared.state.lock().client = traits;
        // The model loads while the client still gets ready.
        self.shared.configure(&options);
        if let Some(process_id) = process_id {
            let shared = self.shared.clone();
            self.shared.spawn(async move {
                parent::gone(process_id).await;
                shared.orphaned.notify_one();
            });
        }
        Ok(reply)
    }

    async fn initialized(&self, _: lsp::InitializedParams) {
        self.shared.initialized();
    }

    async fn shutdown(&self) -> Result<()> {
        self.shared.stop();
        Ok(())
    }
}

impl Backend {
    /// What is offered first is what the user sees.
    fn note_shown(&self, suggestions: &[Suggestion], document: &Document, serial: u64) {
        let state = &mut *self.shared.state.lock();
        if let Some(first) = suggestions.first() {
            state.usage.shown(document, first, state.habit, id(serial, 0), Instant::now());
        }
    }

    async fn did_open(&self, params: lsp::DidOpenTextDocumentParams) {
        let lsp::TextDocumentItem { uri, language_id, version, text } = params.text_document;
        let mut state = self.shared.state.lock();
        if state.documents.get(&uri.0).is_some() {
            tracing::warn!("{uri} was opened twice; the second text counts");
            state.forget_runs(&uri.0);
            state.repairs.forget(&uri.0);
        }
        state.documents.open(&uri.0, &String::from(language_id), version, text);
        drop(state);
        self.shared.catch_up(&uri.0);
        self.shared.status_changed();
    }

    async fn did_change(&self, params: lsp::DidChangeTextDocumentParams) {
        let start = Instant::now();
        let version = params.text_document.version;
        let uri = params.text_document.text_document_identifier.uri.0;
        let changes = params.content_changes.into_iter().map(from_proto::change).collect();
        let mut state = self.shared.state.lock();
        let encoding = state.client.encoding;
        let last = state.documents.get(&uri).map(|document| document.version);
        if last.is_some_and(|last| version <= last) {
            tracing::warn!("{uri}: version {version} came after version {last:?}");
        }
        match state.documents.change(&uri, version, changes, encoding) {
            Ok(edits) => {
                state.usage.edited(&uri, &edits);
                if state.flights.edited(&uri, &edits, Instant::now()) {
                    state.withdraw(&uri);
                }
            }
            Err(error) => tracing::warn!("a change was dropped: {error}"),
        }
        state.stats.changed(start.elapsed());
        self.shared.has_typed.store(true, Ordering::Relaxed);
        drop(state);
        self.shared.catch_up(&uri);
    }

    /// Some kinds of progress have a button to cancel them.
    async fn cancel_progress(&self, params: lsp::WorkDoneProgressCancelParams) {
        if params.token == lsp::ProgressToken::from(finetune::TOKEN) {
            self.shared.finetune_cancelled.notify_waiters();
        }
        if params.token == lsp::ProgressToken::from(optimize::TOKEN) {
            self.shared.state.lock().proof.cancel();
        }
        chat::cancelled(&self.shared, &params.token);
    }

    async fn did_save(&self, params: lsp::DidSaveTextDocumentParams) {
        let uri = params.text_document.uri.0;
        self.shared.state.lock().documents.saved(&uri);
        self.shared.catch_up(&uri);
        self.shared.files_changed();
    }

    async fn did_close(&self, params: lsp::DidCloseTextDocumentParams) {
        let uri = params.text_document.uri.0;
        let mut state = self.shared.state.lock();
        state.forget_runs(&uri);
        state.usage.closed(&uri);
        state.repairs.forget(&uri);
        self.shared.unhint(&mut state, &uri);
        if let Some(engine) = &state.engine {
            engine.forget(&uri);
        }
        if !state.documents.close(&uri) {
            tracing::warn!("{uri} was closed but not open");
        }
        self.shared.status_changed();
    }

    async fn did_change_configuration(&self, params: lsp::DidChangeConfigurationParams) {
        let is_pulled = self.shared.state.lock().client.answers_configuration;
        if params.settings.is_null() && is_pulled {
            self.shared.spawn(watch::pull_settings(self.shared.clone()));
        } else {
            self.shared.configure(&params.settings);
        }
    }

    async fn did_change_watched_files(&self, _: lsp::DidChangeWatchedFilesParams) {
        self.shared.files_changed();
    }

    async fn did_change_folders(&self, params: lsp::DidChangeWorkspaceFoldersParams) {
        let paths = |folders: Vec<lsp::WorkspaceFolder>| {
            let uris = folders.iter().map(|folder| folder.uri.0.as_str());
            uris.filter_map(path_of_uri).filter(|path| is_workspace(path)).collect::<Vec<_>>()
        };
        let (added, removed) = (paths(params.event.added), paths(params.event.removed));
        self.shared.folders_changed(added, &removed);
    }

    async fn inline_completion(
        &self,
        params: lsp::InlineCompletionParams,
    ) -> Result<lsp::InlineCompletionResponse> {
        let place = params.text_document_position_params;
        let trigger = from_proto::trigger(params.context.trigger_kind);
        let selected = params.context.selected_completion_info;
        let ask = Ask {
            uri: place.text_document.uri.0,
            position: from_proto::position(place.position),
            trigger,
            items: if trigger == Trigger::Invoked { MAX_ITEMS } else { 1 },
            selected: selected.map(|item| (from_proto::range(item.range), item.text)),
        };
        let Answer { suggestions, document, encoding, serial } = answer(&self.shared, ask).await?;
        self.note_shown(&suggestions, &document, serial);
        let items = suggestions.into_iter().enumerate().map(|(index, suggestion)| {
            to_proto::inline_completion_item(suggestion, &document, encoding, id(serial, index))
        });
        Ok(lsp::InlineCompletionList { items: items.collect() }.into())
    }

    /// For editors without ghost text. The list is never complete: it is asked for again with each
    /// key, and the answer that is there already is used again.
    async fn completion(&self, params: lsp::CompletionParams) -> Result<lsp::CompletionResponse> {
        let place = params.text_document_position_params;
        let ask = Ask {
            uri: place.text_document.uri.0,
            position: from_proto::position(place.position),
            // Popups open while typing, whatever the client calls it.
            trigger: Trigger::Automatic,
            items: 1,
            selected: None,
        };
        let Answer { suggestions, document, encoding, serial } = answer(&self.shared, ask).await?;
        self.note_shown(&suggestions, &document, serial);
        let items = suggestions.into_iter().enumerate().map(|(index, suggestion)| {
            to_proto::completion_item(suggestion, &document, encoding, id(serial, index))
        });
        let items = items.collect();
        Ok(lsp::CompletionList { is_incomplete: true, items, ..Default::default() }.into())
    }

    /// The client shows a suggestion. This and the next two are extensions of GitHub's server that clients speak already.
    async fn did_show(&self, params: Value) {
        if let Some(id) = shown_id(&params) {
            self.shared.state.lock().usage.seen(id);
        }
    }

    /// The user took the beginning of a suggestion: a word, a line.
    async fn did_accept_part(&self, params: Value) {
        let length = params["acceptedLength"].as_u64().and_then(|n| usize::try_from(n).ok());
        if let Some((id, length)) = shown_id(&params).zip(length) {
            let state = &mut *self.shared.state.lock();
            state.stats.counts.accepted += u64::from(state.usage.accepted(id, Some(length)));
        }
    }

    /// The user looks at a document.
    async fn did_focus(&self, params: Value) {
        if let Some(uri) = params["textDocument"]["uri"].as_str() {
            self.shared.state.lock().documents.focus(uri);
        }
    }

    async fn code_action(&self, params: ActionParams) -> Result<Value> {
        actions::actions(&self.shared, params).await
    }

    async fn resolve_code_action(&self, action: Value) -> Result<Value> {
        actions::resolve(&self.shared, action).await
    }

    async fn execute_command(&self, params: lsp::ExecuteCommandParams) -> Result<Value> {
        let arguments = params.arguments.unwrap_or_default();
        let token = params.work_done_progress_params.work_done_token;
        commands::execute(&self.shared, &params.command, &arguments, token).await
    }

    async fn status(&self) -> Result<Value> {
        Ok(self.shared.status())
    }

    /// `nestling/text`: what the server believes a document to be, to find errors in either side.
    async fn text(&self, document: lsp::TextDocumentIdentifier) -> Result<Value> {
        let state = self.shared.state.lock();
        let Some(document) = state.documents.get(&document.uri.0) else {
            return Err(Error::invalid_params(format!(
                "the document is not open: {}",
                document.uri
            )));
        };
        Ok(json!({ "text": document.text.as_str(), "version": document.version }))
    }
}

/// The id that the command of an item carries.
fn shown_id(params: &Value) -> Option<&str> {
    params["item"]["command"]["arguments"][0].as_str()
}

fn id(serial: u64, index: usize) -> String {
    format!("{serial}-{index}")
}

impl super::shared::State {
    fn withdraw(&self, uri: &str) {
        if let Some(engine) = &self.engine {
            engine.withdraw(uri);
        }
    }

    /// Ends what runs for a document and lets go of its last answer.
    fn forget_runs(&mut self, uri: &str) {
        self.withdraw(uri);
        self.flights.close(uri, Silence::Stale);
    }
}
