// What happens between the editor and the server: silence where it is wanted, settings, and what a proof found.

import * as vscode from 'vscode';
import type { Middleware } from 'vscode-languageclient/node';
import { isLanguageOn } from './documents';
import type { Progress } from './progress';
import { forServer, SECTION, settings } from './settings';

/** The answer to `nestling.prove`. */
interface Proof {
  title: string;
  summary: string;
  diff: string;
  cancelled?: boolean;
}

export interface Hooks {
  extension: vscode.Extension<unknown>;
  output: vscode.LogOutputChannel;
  progress: Progress;
  isSnoozed(): boolean;
  offered(document: vscode.TextDocument, items: readonly vscode.InlineCompletionItem[]): void;
}

export function middleware(hooks: Hooks): Middleware {
  return {
    async provideInlineCompletionItems(document, position, context, token, next) {
      // The server knows the languages that have a grammar; here every language can be switched off.
      if (hooks.isSnoozed() || !isLanguageOn(settings().get('languages'), document.languageId)) {
        return [];
      }
      const answer = await next(document, position, context, token);
      const items = Array.isArray(answer) ? answer : (answer?.items ?? []);
      hooks.offered(document, items);
      return answer;
    },
    async executeCommand(command, args, next) {
      const answer: unknown = await next(command, args);
      if (command === 'nestling.prove' && answer && !(answer as Proof).cancelled) {
        const { title, summary, diff } = answer as Proof;
        hooks.output.appendLine(`${title}\n${summary}\n\n${diff}`);
      }
      return answer;
    },
    handleWorkDoneProgress(token, params, next) {
      if (hooks.progress.handles(token)) {
        hooks.progress.said(token, params);
      }
      // The library forgets a token at its end.
      if (!hooks.progress.handles(token) || params.kind === 'end') {
        next(token, params);
      }
    },
    workspace: {
      async configuration(params, token, next) {
        const isOurs = params.items.every((item) => item.section === SECTION);
        return isOurs ? params.items.map(() => forServer(hooks.extension)) : next(params, token);
      },
    },
  };
}
