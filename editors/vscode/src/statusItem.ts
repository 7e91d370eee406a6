// The status item in the editor, and the menu behind it.

import * as vscode from 'vscode';
import type { Server } from './client';
import { languageName, SCHEMES, isLanguageOn, whyNotHere } from './documents';
import { settings } from './settings';
import { clock, isSnoozed, SNOOZES } from './snooze';
import { describe, type View } from './status';

/** What only the extension knows. */
export interface Snooze {
  until: number | undefined;
}

export class StatusItem implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem('nestling.status', vscode.StatusBarAlignment.Right, 90);
  private readonly listeners: vscode.Disposable[];

  constructor(
    private readonly server: Server,
    private readonly snooze: Snooze,
  ) {
    this.item.name = 'nestling';
    this.item.command = 'nestling.menu';
    this.listeners = [
      server.onChange(() => this.refresh()),
      vscode.window.onDidChangeActiveTextEditor(() => this.refresh()),
      vscode.workspace.onDidChangeConfiguration(() => this.refresh()),
    ];
    this.refresh();
    this.item.show();
  }

  view(): View {
    const document = vscode.window.activeTextEditor?.document;
    const place = document && { scheme: document.uri.scheme, languageId: document.languageId };
    const wishes = {
      enable: settings().get('enable', true),
      languages: settings().get('languages'),
      ghostText: vscode.workspace.getConfiguration('editor', document).get('inlineSuggest.enabled', true),
    };
    return describe({
      phase: this.server.phase,
      status: this.server.status,
      instead: this.server.program?.instead,
      notHere: whyNotHere(place, wishes),
      snoozedUntil: this.snooze.until,
      uri: document?.uri.toString(),
      now: Date.now(),
    });
  }

  refresh(): void {
    const { text, severity, state, silence, figures } = this.view();
    const said = silence ? `nothing shown: ${silence}` : 'nothing to explain';
    this.item.text = text;
    this.item.backgroundColor =
      severity === 'none' ? undefined : new vscode.ThemeColor(`statusBarItem.${severity}Background`);
    this.item.tooltip = [`nestling: ${state}`, said, '', ...figures].join('\n').trim();
    this.item.accessibilityInformation = { label: `nestling: ${state}; ${said}`, role: 'button' };
  }

  /** Shows what the server does, and what can be done about it. */
  async menu(): Promise<void> {
    const { state, silence, figures } = this.view();
    const act = (label: string, command: string, ...args: unknown[]) => ({ label, command, args });
    const document = vscode.window.activeTextEditor?.document;
    const entries: (vscode.QuickPickItem & { command?: string; args?: unknown[] })[] = [];
    entries.push({ label: `$(info) ${state}`, detail: figures.join(' · ') || undefined, command: 'nestling.output' });
    if (silence) {
      entries.push({ label: `$(question) Nothing was shown: ${silence}`, command: 'nestling.output' });
    }
    entries.push({ label: 'suggestions', kind: vscode.QuickPickItemKind.Separator });
    entries.push(act(settings().get('enable', true) ? 'Switch off' : 'Switch on', 'nestling.toggle'));
    if (document && SCHEMES.includes(document.uri.scheme)) {
      const name = languageName(document.languageId);
      const isOn = isLanguageOn(settings().get('languages'), document.languageId);
      entries.push(act(`Switch ${isOn ? 'off' : 'on'} for ${name}`, 'nestling.toggleLanguage'));
    }
    if (isSnoozed(this.snooze.until, Date.now())) {
      entries.push(act(`End the snooze (until ${clock(this.snooze.until)})`, 'nestling.wake'));
    } else {
      entries.push(...SNOOZES.map((minutes) => act(`Snooze for ${minutes} minutes`, 'nestling.snooze', minutes)));
    }
    entries.push({ label: 'model', kind: vscode.QuickPickItemKind.Separator });
    entries.push(act('Fine-tune on this repository…', 'nestling.startFinetune'));
    entries.push(act('Choose the model…', 'nestling.chooseModel'));
    entries.push({ label: 'help', kind: vscode.QuickPickItemKind.Separator });
    entries.push(act('Show the output', 'nestling.output'));
    entries.push(act('Doctor', 'nestling.doctor'));
    entries.push(act('Restart the server', 'nestling.restart'));
    entries.push(act('Open the walkthrough', 'nestling.walkthrough'));
    entries.push(act('Open the settings', 'workbench.action.openSettings', '@ext:nestling.nestling'));
    const chosen = await vscode.window.showQuickPick(entries, { title: 'nestling', placeHolder: state });
    if (chosen?.command) {
      await vscode.commands.executeCommand(chosen.command, ...(chosen.args ?? []));
    }
  }

  dispose(): void {
    this.item.dispose();
    for (const listener of this.listeners) {
      listener.dispose();
    }
  }
}
