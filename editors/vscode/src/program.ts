// Commands that run the program itself: trust, models and doctor. The server is told through it or follows by itself.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import * as vscode from 'vscode';
import { ExecuteCommandRequest } from 'vscode-languageclient/node';
import type { Server } from './client';

const run = promisify(execFile);
const TIME_MS = 60_000;

/** What `nestling model list --json` prints. */
interface Models {
  in_use: string;
  problem: string | null;
  models: { name: string; embedded: boolean; in_use: boolean; bytes: number; card?: { what?: string } }[];
}

/** Runs the program; what it prints on stdout, and what it says on stderr. Rejects with its own words. */
async function call(server: Server, ...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const program = server.program;
  if (!program) {
    throw new Error('the program was not found');
  }
  try {
    const cwd = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath;
    return await run(program.path, args, { cwd, timeout: TIME_MS, maxBuffer: 1 << 24 });
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim();
    throw said ? new Error(said) : error;
  }
}

/** A folder of the workspace: the only one, or the one that is picked. */
async function folder(): Promise<vscode.WorkspaceFolder | undefined> {
  const folders = vscode.workspace.workspaceFolders ?? [];
  if (folders.length === 0) {
    throw new Error('no folder is open');
  }
  return folders.length === 1 ? folders[0] : vscode.window.showWorkspaceFolderPick();
}

/** Lets checkers run code of a workspace, once VS Code's own question about it was answered. */
export async function trust(server: Server): Promise<void> {
  if (!vscode.workspace.isTrusted) {
    throw new Error('VS Code does not trust this workspace yet (Workspaces: Manage Workspace Trust)');
  }
  const chosen = await folder();
  const detail =
    'Checkers may then run code of the project on a copy of it, as build scripts and macros do, and so may the commands in nestling.check and nestling.test.';
  const go = 'Trust';
  if (!chosen || (await vscode.window.showWarningMessage(`Trust the checks of ${chosen.name}?`, { modal: true, detail }, go)) !== go) {
    return;
  }
  const { stderr } = await call(server, 'trust', chosen.uri.fsPath);
  void vscode.window.showInformationMessage(`nestling: ${stderr.trim()}`);
}

export async function withdrawTrust(server: Server): Promise<void> {
  const chosen = await folder();
  if (chosen) {
    const { stderr } = await call(server, 'trust', '--revoke', chosen.uri.fsPath);
    void vscode.window.showInformationMessage(`nestling: ${stderr.trim()}`);
  }
}

/** Lets the user pick the model of the workspace; the server changes to it between two requests. */
export async function chooseModel(server: Server): Promise<void> {
  // The server's models are those of its first folder.
  const first = vscode.workspace.workspaceFolders?.[0];
  if (!first) {
    throw new Error('models belong to a workspace, and no folder is open');
  }
  const { stdout } = await call(server, 'model', 'list', first.uri.fsPath, '--json');
  const { models, problem } = JSON.parse(stdout) as Models;
  const importing = 'Import a model…';
  const entries = models.map((model) => ({
    label: model.name,
    description: [`${(model.bytes / 1e6).toFixed(1)} MB`, model.in_use && 'in use'].filter(Boolean).join(', '),
    detail: model.embedded ? 'inside the program' : model.card?.what,
  }));
  const placeHolder = problem ?? `The model of ${first.name}`;
  const chosen = await vscode.window.showQuickPick([...entries, { label: importing }], { title: 'nestling', placeHolder });
  if (chosen?.label === importing) {
    await importModel(server);
  } else if (chosen) {
    await execute(server, 'nestling.useModel', chosen.label);
  }
}

/** Copies a model into the workspace's models and uses it. */
export async function importModel(server: Server): Promise<void> {
  const first = vscode.workspace.workspaceFolders?.[0];
  if (!first) {
    throw new Error('models belong to a workspace, and no folder is open');
  }
  const options = { canSelectFiles: true, canSelectFolders: true, canSelectMany: false, openLabel: 'Import' };
  const [picked] = (await vscode.window.showOpenDialog({ ...options, title: 'A GGUF file, a model directory or an adapter' })) ?? [];
  if (!picked) {
    return;
  }
  const title = 'nestling: importing the model';
  await vscode.window.withProgress({ location: vscode.ProgressLocation.Notification, title }, async () => {
    const { stderr } = await call(server, 'model', 'import', picked.fsPath, first.uri.fsPath, '--use');
    void vscode.window.showInformationMessage(stderr.trim() || 'nestling: the model is imported');
  });
}

/** Prints what works here and what does not. */
export async function doctor(server: Server, output: vscode.LogOutputChannel): Promise<void> {
  output.show(true);
  const { stdout, stderr } = await call(server, 'doctor');
  output.appendLine(`${stderr}${stdout}`.trim());
}

/** Lets the model learn the first folder of the workspace. The server shows the progress, with a button to cancel. */
export async function startFinetune(server: Server): Promise<void> {
  const budgets = [
    { label: '20 minutes', budget: '20m' },
    { label: '1 hour', budget: '1h' },
    { label: '3 hours', budget: '3h' },
    { label: '10 minutes', budget: '10m' },
  ];
  const placeHolder = 'How long may it take? It waits while you type, and can be stopped and gone on with.';
  const chosen = await vscode.window.showQuickPick(budgets, { title: 'nestling: fine-tune on this repository', placeHolder });
  if (chosen) {
    await execute(server, 'nestling.finetune', { budget: chosen.budget });
  }
}

/** Asks the server to do something. */
export async function execute(server: Server, command: string, ...args: unknown[]): Promise<unknown> {
  if (!server.client) {
    throw new Error('the server is not running');
  }
  return server.client.sendRequest(ExecuteCommandRequest.type, { command, arguments: args });
}
