// Progress that the user may want to end: a notification with a button, where the client library shows a line in the
// status bar that has none.

import * as vscode from 'vscode';
import type { WorkDoneProgressBegin, WorkDoneProgressEnd, WorkDoneProgressReport } from 'vscode-languageclient/node';

type Said = WorkDoneProgressBegin | WorkDoneProgressReport | WorkDoneProgressEnd;

interface Shown {
  report(message: string | undefined): void;
  end(): void;
}

export class Progress {
  private readonly shown = new Map<string | number, Shown>();

  /** `cancel` asks the server to end what a token stands for. */
  constructor(private readonly cancel: (token: string | number) => void) {}

  /** Whether a token's progress is shown here. */
  handles(token: string | number): boolean {
    return token === 'nestling/finetune' || token === 'nestling/prove';
  }

  said(token: string | number, said: Said): void {
    if (said.kind === 'begin') {
      this.end(token);
      this.begin(token, said);
    } else if (said.kind === 'report') {
      this.shown.get(token)?.report(said.message);
    } else {
      this.end(token);
    }
  }

  /** The server is gone, and with it all that it was doing. */
  endAll(): void {
    for (const token of [...this.shown.keys()]) {
      this.end(token);
    }
  }

  private begin(token: string | number, { title, message, cancellable }: WorkDoneProgressBegin): void {
    const options = { location: vscode.ProgressLocation.Notification, title, cancellable: cancellable === true };
    void vscode.window.withProgress(options, (progress, cancelled) => {
      progress.report({ message });
      cancelled.onCancellationRequested(() => this.cancel(token));
      return new Promise<void>((resolve) => {
        this.shown.set(token, { report: (message) => progress.report({ message }), end: resolve });
      });
    });
  }

  private end(token: string | number): void {
    this.shown.get(token)?.end();
    this.shown.delete(token);
  }
}
