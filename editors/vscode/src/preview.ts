// Repairs and rewrites of the line under the cursor, shown as a difference before they are applied.
// What is shown is a text of this extension, beside the document as it stands in the editor.

import * as path from 'node:path';
import * as vscode from 'vscode';
import {
  type CodeAction,
  CodeActionRequest,
  CodeActionResolveRequest,
  type Command,
  type LanguageClient,
} from 'vscode-languageclient/node';
import type { Server } from './client';

export const REPAIRS = 'quickfix';
export const REWRITES = 'refactor.rewrite';

const SCHEME = 'nestling-preview';
/** The text after the change that is shown; there is one at a time. */
let after = '';

/** Lets the editor read what is previewed. */
export function provide(): vscode.Disposable {
  return vscode.workspace.registerTextDocumentContentProvider(SCHEME, { provideTextDocumentContent: () => after });
}

/** Lets the user pick an entry and previews its edit; an entry that proves something is carried out. */
export async function preview(server: Server, kind: string, nothing: string): Promise<void> {
  const { client, document, actions } = await entries(server, kind);
  if (actions.length === 0) {
    void vscode.window.showInformationMessage(`nestling: ${nothing}`);
    return;
  }
  const picks = actions.map((action) => ({ label: action.title.replace(/^nestling: /, ''), action }));
  const chosen = await vscode.window.showQuickPick(picks, { title: 'nestling', placeHolder: 'What would it change?' });
  if (chosen?.action.command) {
    await carryOut(chosen.action.command);
  } else if (chosen) {
    await show(client, document, chosen.action);
  }
}

/** Proves the first rewrite of the line: the server tells what came of it, and asks whether to apply it. */
export async function prove(server: Server, nothing: string): Promise<void> {
  const { actions } = await entries(server, REWRITES);
  const command = actions.find((action) => action.command)?.command;
  if (command) {
    await carryOut(command);
  } else {
    void vscode.window.showInformationMessage(`nestling: ${nothing}`);
  }
}

/** Through the editor, so that it is the same as from its own menu. */
async function carryOut({ command, arguments: args = [] }: Command): Promise<void> {
  await vscode.commands.executeCommand(command, ...args);
}

interface Menu {
  client: LanguageClient;
  document: vscode.TextDocument;
  actions: CodeAction[];
}

async function entries(server: Server, kind: string): Promise<Menu> {
  const { client } = server;
  const editor = vscode.window.activeTextEditor;
  if (!client) {
    throw new Error('the server is not running');
  }
  if (!editor) {
    throw new Error('no text editor is active');
  }
  const { document, selection } = editor;
  const convert = client.code2ProtocolConverter;
  const here = vscode.languages
    .getDiagnostics(document.uri)
    .filter(({ range }) => range.start.line <= selection.end.line && range.end.line >= selection.start.line);
  const found = await client.sendRequest(CodeActionRequest.type, {
    textDocument: convert.asTextDocumentIdentifier(document),
    range: convert.asRange(selection),
    context: { only: [kind], diagnostics: await convert.asDiagnostics(here) },
  });
  return { client, document, actions: (found ?? []) as CodeAction[] };
}

async function show(client: LanguageClient, document: vscode.TextDocument, action: CodeAction): Promise<void> {
  const options = { location: vscode.ProgressLocation.Notification, title: action.title, cancellable: true };
  const { edit } = action.edit
    ? action
    : await vscode.window.withProgress(options, (_, token) =>
        client.sendRequest(CodeActionResolveRequest.type, action, token),
      );
  // Without an edit the server has said why.
  if (!edit) {
    return;
  }
  const version = document.version;
  const change = await client.protocol2CodeConverter.asWorkspaceEdit(edit);
  after = applied(document, change.get(document.uri));
  // Another query each time, so that the text is asked for anew.
  const changed = document.uri.with({ scheme: SCHEME, query: String(Date.now()) });
  const title = `${path.basename(document.uri.path)}: ${action.title}`;
  await vscode.commands.executeCommand('vscode.diff', document.uri, changed, title, { preview: true });
  const evidence = Object.values(edit.changeAnnotations ?? {})[0]?.description ?? '';
  const apply = 'Apply';
  const said = action.title.includes(evidence) ? action.title : `${action.title}: ${evidence}`;
  const chosen = await vscode.window.showInformationMessage(said, apply, 'Discard');
  await close(changed);
  if (chosen !== apply) {
    return;
  }
  if (document.version !== version) {
    throw new Error('the text has changed since');
  }
  await vscode.workspace.applyEdit(change, { isRefactoring: true });
}

/** The text of a document after edits, which do not overlap. */
function applied(document: vscode.TextDocument, edits: vscode.TextEdit[]): string {
  let text = document.getText();
  const fromTheEnd = [...edits].sort((a, b) => b.range.start.compareTo(a.range.start));
  for (const { range, newText } of fromTheEnd) {
    text = text.slice(0, document.offsetAt(range.start)) + newText + text.slice(document.offsetAt(range.end));
  }
  return text;
}

async function close(shown: vscode.Uri): Promise<void> {
  const tabs = vscode.window.tabGroups.all.flatMap((group) => group.tabs);
  const isShown = ({ input }: vscode.Tab) =>
    input instanceof vscode.TabInputTextDiff && input.modified.toString() === shown.toString();
  await vscode.window.tabGroups.close(tabs.filter(isShown));
}
