// The commands of the palette. Each says in one message what went wrong, if something did.

import * as vscode from 'vscode';
import { ask, provideAnswers } from './ask';
import type { Server } from './client';
import { languageName, isLanguageOn } from './documents';
import { commitMessage, explain } from './writing';
import { preview, prove, provide, REPAIRS, REWRITES } from './preview';
import * as program from './program';
import { settings } from './settings';
import { SNOOZES, snoozeUntil } from './snooze';
import type { Snooze, StatusItem } from './statusItem';

export interface Parts {
  extension: vscode.Extension<unknown>;
  output: vscode.LogOutputChannel;
  server: Server;
  snooze: Snooze;
  status: StatusItem;
}

export function register({ extension, output, server, snooze, status }: Parts): vscode.Disposable[] {
  let wake: NodeJS.Timeout | undefined;

  function snoozeTo(until: number | undefined): void {
    clearTimeout(wake);
    snooze.until = until;
    if (until !== undefined) {
      wake = setTimeout(() => snoozeTo(undefined), until - Date.now());
      void vscode.commands.executeCommand('editor.action.inlineSuggest.hide');
    }
    status.refresh();
  }

  const commands: Record<string, (...args: never[]) => unknown> = {
    menu: () => status.menu(),
    output: () => output.show(true),
    restart: () => server.start(),
    walkthrough: () => vscode.commands.executeCommand('workbench.action.openWalkthrough', `${extension.id}#start`, false),
    toggle: () => change<boolean>('enable', () => !settings().get('enable', true)),
    toggleLanguage,
    snooze: async (minutes?: number) => {
      const chosen = minutes ?? (await pickMinutes());
      if (chosen !== undefined) {
        snoozeTo(snoozeUntil(Date.now(), chosen));
      }
    },
    wake: () => snoozeTo(undefined),
    ask: () => ask(server),
    previewRepairs: () => preview(server, REPAIRS, 'nothing to repair in this line'),
    previewRewrites: () => preview(server, REWRITES, 'nothing to make faster in this line'),
    proveRewrite: () => prove(server, 'nothing to make faster in this line'),
    startFinetune: () => program.startFinetune(server),
    stopFinetune: () => program.execute(server, 'nestling.cancelFinetune'),
    chooseModel: () => program.chooseModel(server),
    importModel: () => program.importModel(server),
    trust: () => program.trust(server),
    withdrawTrust: () => program.withdrawTrust(server),
    doctor: () => program.doctor(server, output),
    writeCommitMessage: (provider?: vscode.SourceControl) => commitMessage(server, provider),
    explainSuggestion: () => explain(server),
  };
  const registered = Object.entries(commands).map(([name, run]) =>
    vscode.commands.registerCommand(`nestling.${name}`, async (...args: never[]) => {
      try {
        await run(...args);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        void vscode.window.showWarningMessage(`nestling: ${reason}`);
      }
    }),
  );
  return [...registered, provide(), provideAnswers(), { dispose: () => clearTimeout(wake) }];
}

async function toggleLanguage(): Promise<void> {
  const document = vscode.window.activeTextEditor?.document;
  if (!document) {
    throw new Error('no text editor is active');
  }
  const languages = settings().get<Record<string, boolean>>('languages', {});
  const isOn = isLanguageOn(languages, document.languageId);
  const name = languageName(document.languageId);
  await change<Record<string, boolean>>('languages', (own) => ({ ...own, [name]: !isOn }), (own) => name in own);
}

/** Changes a setting where its value comes from: that of a workspace stands above the user's own. */
async function change<T>(
  name: string,
  to: (own: T | undefined) => T,
  counts: (own: T) => boolean = () => true,
): Promise<void> {
  const found = settings().inspect<T>(name);
  const workspace = found?.workspaceValue;
  const isThere = workspace !== undefined && counts(workspace);
  const target = isThere ? vscode.ConfigurationTarget.Workspace : vscode.ConfigurationTarget.Global;
  await settings().update(name, to(isThere ? workspace : found?.globalValue), target);
}

async function pickMinutes(): Promise<number | undefined> {
  const entries = SNOOZES.map((minutes) => ({ label: `${minutes} minutes`, minutes }));
  const placeHolder = 'No suggestions for how long?';
  return (await vscode.window.showQuickPick(entries, { title: 'nestling', placeHolder }))?.minutes;
}
