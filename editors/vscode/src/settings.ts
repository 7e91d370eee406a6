// What the server is told of the settings: its own ones, without those that only this extension reads.
// The waiting after a key is left to the editor, which waits by itself.

import * as vscode from 'vscode';
import clientOnly from '../settings.client.json';

export const SECTION = 'nestling';

/** Settings that take effect with another start of the server. */
export const OF_THE_START = ['nestling.path', 'nestling.model', 'nestling.log'];

export function settings(): vscode.WorkspaceConfiguration {
  return vscode.workspace.getConfiguration(SECTION);
}

/** The text of a setting without surrounding white space; empty where it is not set. */
export function text(name: 'path' | 'model' | 'log'): string {
  return settings().get<string>(name, '').trim();
}

/** The settings of the server, as it wants them. */
export function forServer(extension: vscode.Extension<unknown>): Record<string, unknown> {
  const properties: Record<string, unknown> = extension.packageJSON.contributes.configuration.properties;
  const all = settings();
  const values: Record<string, unknown> = {};
  for (const key of Object.keys(properties)) {
    if (key in clientOnly) {
      continue;
    }
    const name = key.slice(SECTION.length + 1);
    values[name] = all.get(name);
  }
  if (!isSet(all.inspect('debounce'))) {
    // The editor waits some 50 ms after a key before it asks; a second wait would only add to that.
    values.debounce = 0;
  }
  values.statusNotifications = true;
  values.trusted = vscode.workspace.isTrusted;
  return values;
}

function isSet(found: ReturnType<vscode.WorkspaceConfiguration['inspect']>): boolean {
  return [found?.globalValue, found?.workspaceValue, found?.workspaceFolderValue].some((value) => value !== undefined);
}
