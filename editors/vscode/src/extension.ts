// The entry: builds the parts and ties them together. Everything clever is in the server.

import * as vscode from 'vscode';
import { Accepting } from './accepting';
import { Server } from './client';
import { register } from './commands';
import { middleware } from './middleware';
import { Progress } from './progress';
import { OF_THE_START, SECTION } from './settings';
import { isSnoozed } from './snooze';
import { type Snooze, StatusItem } from './statusItem';

let running: Server | undefined;

export function activate(context: vscode.ExtensionContext): void {
  const { extension } = context;
  const output = vscode.window.createOutputChannel('nestling', { log: true });
  const snooze: Snooze = { until: undefined };
  const accepting = new Accepting(() => server);
  const progress = new Progress((token) => {
    server.client?.sendNotification('window/workDoneProgress/cancel', { token }).catch(() => {});
  });
  const server = new Server(
    extension,
    output,
    middleware({
      extension,
      output,
      progress,
      isSnoozed: () => isSnoozed(snooze.until, Date.now()),
      offered: (document, items) => accepting.offered(document, items),
    }),
  );
  const status = new StatusItem(server, snooze);
  running = server;
  context.subscriptions.push(
    output,
    accepting,
    status,
    ...register({ extension, output, server, snooze, status }),
    tellOfFailures(server, output),
    server.onChange(() => accepting.greet()),
    server.onChange(() => server.client ?? progress.endAll()),
    vscode.workspace.onDidChangeConfiguration(async (event) => {
      if (OF_THE_START.some((key) => event.affectsConfiguration(key))) {
        await server.start();
      } else if (event.affectsConfiguration(SECTION)) {
        await server.configure();
      }
    }),
  );
  context.subscriptions.push(vscode.workspace.onDidGrantWorkspaceTrust(() => server.configure()));
  // Nobody waits for it: the editor goes on at once.
  void server.start();
}

export function deactivate(): Promise<void> | undefined {
  return running?.stop();
}

/** Shows one message when the server cannot be used, with the way out. */
function tellOfFailures(server: Server, output: vscode.LogOutputChannel): vscode.Disposable {
  let told: object | undefined;
  return server.onChange(async () => {
    const { phase } = server;
    if (phase.kind !== 'failed' || phase === told) {
      return;
    }
    told = phase;
    const [log, open, again] = ['Show Log', 'Open Settings', 'Try Again'];
    const chosen = await vscode.window.showErrorMessage(`nestling: ${phase.reason}`, log, open, again);
    if (chosen === log) {
      output.show();
    } else if (chosen === open) {
      await vscode.commands.executeCommand('workbench.action.openSettings', 'nestling.path');
    } else if (chosen === again) {
      await server.start();
    }
  });
}
