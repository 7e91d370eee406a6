// Commit messages, and why a suggestion reads as it does.

import * as vscode from 'vscode';
import type { Server } from './client';
import { execute } from './program';

/** What the extension of VS Code for git gives to others, as far as it is used here. */
interface Git {
  getAPI(version: 1): { repositories: { rootUri: vscode.Uri; inputBox: { value: string } }[] };
}

/** Writes a message for what is about to be committed into the box of the repository. */
export async function commitMessage(server: Server, provider?: vscode.SourceControl): Promise<void> {
  const extension = vscode.extensions.getExtension<Git>('vscode.git');
  const git = extension && (extension.isActive ? extension.exports : await extension.activate());
  const repositories = git?.getAPI(1).repositories ?? [];
  const active = vscode.window.activeTextEditor?.document.uri.path ?? '';
  const repository =
    repositories.find((known) => known.rootUri.toString() === provider?.rootUri?.toString()) ??
    repositories.find((known) => active.startsWith(`${known.rootUri.path}/`)) ??
    repositories[0];
  if (!repository) {
    throw new Error('no git repository is open');
  }
  const folder = repository.rootUri.toString();
  const { message } = (await execute(server, 'nestling.commitMessage', folder)) as { message: string };
  if (!message) {
    throw new Error('nothing has changed');
  }
  repository.inputBox.value = message;
}

/** Shows for each token of the suggestion at the cursor how likely it is, who says so, and where it was read. */
export async function explain(server: Server): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  if (!editor) {
    throw new Error('no text editor is active');
  }
  const place = {
    textDocument: { uri: editor.document.uri.toString() },
    position: { line: editor.selection.active.line, character: editor.selection.active.character },
  };
  const why = (await execute(server, 'nestling.explain', place)) as { text: string; table: string } | null;
  if (!why) {
    throw new Error('nothing is suggested at the cursor; the status item says why');
  }
  const content = `${why.text.trim()}\n\n${why.table}`;
  const document = await vscode.workspace.openTextDocument({ content, language: 'plaintext' });
  await vscode.window.showTextDocument(document, { viewColumn: vscode.ViewColumn.Beside, preview: true });
}
