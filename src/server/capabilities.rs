//! The handshake: what the client can do, and what it is told that we can do.
//! Whatever the client does not announce is not used.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tower_lsp_server::gen_lsp_types as lsp;

use super::{actions, commands, from_proto, to_proto};
use crate::text::PositionEncoding;
use crate::workspace::path_of_uri;

/// What matters to us about a client.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientTraits {
    /// What a column counts, agreed for the whole connection.
    pub(super) encoding: PositionEncoding,
    /// Shows ghost text; then the popup gets nothing from us.
    pub(super) has_inline_completion: bool,
    /// Shows progress that the server begins.
    pub(super) has_progress: bool,
    /// Answers `workspace/configuration`.
    pub(super) answers_configuration: bool,
    /// The process that must outlive us, if the client named one.
    pub(super) process_id: Option<u32>,
    /// The settings that came with the handshake.
    pub(super) options: Value,
    /// The folders of the workspace.
    pub(super) roots: Vec<PathBuf>,
    /// Watches files for us when it is asked to.
    pub(super) watches_files: bool,
    /// Works entries of a menu out when they are chosen.
    pub(super) resolves_actions: bool,
    /// Speaks the extensions of GitHub's server: then it takes `didChangeStatus`, and sends settings that are not ours.
    pub(super) speaks_copilot: bool,
    /// Takes edits of a document's version, and words about them.
    pub(super) takes_versions: bool,
    pub(super) takes_annotations: bool,
}

impl ClientTraits {
    pub(super) fn new(params: lsp::InitializeParams) -> ClientTraits {
        let value = serde_json::to_value(&params).unwrap_or_default();
        let (roots, edits) = (roots(&value), &value["capabilities"]["workspace"]["workspaceEdit"]);
        let capabilities = params.capabilities;
        let text_document = capabilities.text_document.unwrap_or_default();
        let encodings = capabilities.general.and_then(|general| general.position_encodings);
        let window = capabilities.window.unwrap_or_default();
        let workspace = capabilities.workspace.unwrap_or_default();
        ClientTraits {
            encoding: from_proto::encoding(encodings.as_deref()),
            has_inline_completion: text_document.inline_completion.is_some(),
            has_progress: window.work_done_progress == Some(true),
            answers_configuration: workspace.configuration == Some(true),
            process_id: params.process_id.and_then(|id| u32::try_from(id).ok()),
            resolves_actions: value["capabilities"]["textDocument"]["codeAction"]["resolveSupport"]
                ["properties"]
                .as_array()
                .is_some_and(|properties| properties.iter().any(|name| name == "edit")),
            speaks_copilot: value["initializationOptions"]["editorPluginInfo"].is_object(),
            options: params.initialization_options.unwrap_or_default(),
            roots,
            takes_versions: edits["documentChanges"] == true,
            takes_annotations: edits["changeAnnotationSupport"].is_object(),
            watches_files: workspace
                .did_change_watched_files
                .is_some_and(|watching| watching.dynamic_registration == Some(true)),
        }
    }

    /// The answer to `initialize`.
    pub(super) fn reply(&self) -> lsp::InitializeResult {
        let sync = lsp::TextDocumentSyncOptions {
            open_close: Some(true),
            change: Some(lsp::TextDocumentSyncKind::Incremental),
            save: Some(true.into()),
            ..lsp::TextDocumentSyncOptions::default()
        };
        let popup = lsp::CompletionOptions {
            trigger_characters: Some([".", ":", "(", "=", " "].map(String::from).to_vec()),
            ..lsp::CompletionOptions::default()
        };
        let commands = lsp::ExecuteCommandOptions {
            commands: commands::ALL.map(String::from).to_vec(),
            ..lsp::ExecuteCommandOptions::default()
        };
        let kinds = [actions::QUICK_FIX, actions::FIX_ALL, actions::REWRITE]
            .map(|kind| kind.to_string().into());
        let actions = lsp::CodeActionOptions {
            code_action_kinds: Some(kinds.to_vec()),
            resolve_provider: Some(true),
            ..lsp::CodeActionOptions::default()
        };
        let folders = lsp::WorkspaceFoldersServerCapabilities {
            supported: Some(true),
            change_notifications: Some(true.into()),
        };
        let workspace = lsp::WorkspaceOptions {
            workspace_folders: Some(folders),
            ..lsp::WorkspaceOptions::default()
        };
        lsp::InitializeResult {
            capabilities: lsp::ServerCapabilities {
                position_encoding: Some(to_proto::encoding(self.encoding)),
                text_document_sync: Some(sync.into()),
                inline_completion_provider: Some(true.into()),
                code_action_provider: Some(actions.into()),
                completion_provider: (!self.has_inline_completion).then_some(popup),
                execute_command_provider: Some(commands),
                workspace: Some(workspace),
                ..lsp::ServerCapabilities::default()
            },
            server_info: Some(lsp::ServerInfo {
                name: "nestling".into(),
                version: Some(env!("CARGO_PKG_VERSION").into()),
            }),
        }
    }
}

/// The workspace's folders, or the one that older clients name.
fn roots(params: &Value) -> Vec<PathBuf> {
    let folders = params["workspaceFolders"].as_array().into_iter().flatten();
    let mut roots: Vec<PathBuf> =
        folders.filter_map(|folder| path_of_uri(folder["uri"].as_str()?)).collect();
    if roots.is_empty() {
        roots.extend(params["rootUri"].as_str().and_then(path_of_uri));
    }
    roots.retain(|root| is_workspace(root));
    roots
}

/// A home folder or a whole disk is no workspace.
pub(super) fn is_workspace(root: &Path) -> bool {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    root.parent().is_some() && Some(root) != home.as_deref()
}
