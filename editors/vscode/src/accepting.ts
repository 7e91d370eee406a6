// Tells the server which parts of its suggestions were taken, and which document has the focus.
// VS Code says neither what is shown nor what is taken in part, so the latter is read off the changes of the text.

import * as vscode from 'vscode';
import type { InlineCompletionItem, LanguageClient } from 'vscode-languageclient/node';
import { SCHEMES } from './documents';
import { acceptedLength } from './partial';
import type { Server } from './client';

/** The suggestions of the last answer, with the place that each begins at. */
interface Offer {
  uri: string;
  items: { text: string; start: vscode.Position; item: InlineCompletionItem; isTakenInPart: boolean }[];
}

export class Accepting implements vscode.Disposable {
  private offer: Offer | undefined;
  private greeted: LanguageClient | undefined;
  private readonly listeners: vscode.Disposable[];

  constructor(private readonly server: () => Server) {
    this.listeners = [
      vscode.workspace.onDidChangeTextDocument((event) => this.changed(event)),
      vscode.window.onDidChangeActiveTextEditor((editor) => this.focused(editor?.document)),
    ];
  }

  /** Remembers what the editor gets to show. */
  offered(document: vscode.TextDocument, answer: readonly vscode.InlineCompletionItem[]): void {
    const client = this.server().client;
    const items = answer.flatMap((item) => {
      if (!client || typeof item.insertText !== 'string' || !item.range) {
        return [];
      }
      const { insertText, filterText, range, command } = item;
      const { title = '', command: id = '', arguments: args } = command ?? {};
      const sent: InlineCompletionItem = {
        insertText,
        filterText,
        range: client.code2ProtocolConverter.asRange(range),
        command: { title, command: id, arguments: args },
      };
      return [{ text: insertText, start: range.start, item: sent, isTakenInPart: false }];
    });
    // An empty answer, as to a key that goes on with what is shown, takes nothing away.
    if (items.length > 0) {
      this.offer = { uri: document.uri.toString(), items };
    }
  }

  private changed({ document, contentChanges: [change, ...others] }: vscode.TextDocumentChangeEvent): void {
    const offer = this.offer;
    if (!offer || offer.uri !== document.uri.toString() || !change || others.length > 0) {
      return;
    }
    for (const offered of offer.items) {
      if (change.range.start.isBefore(offered.start)) {
        continue;
      }
      const before = document.getText(new vscode.Range(offered.start, change.range.start));
      const length = acceptedLength(offered.text, before, change.text);
      // What is taken whole at once is told by the item's own command; the last of several parts is not.
      if (length === undefined || (length === offered.text.length && !offered.isTakenInPart)) {
        continue;
      }
      offered.isTakenInPart = true;
      this.tell('textDocument/didPartiallyAcceptCompletion', { item: offered.item, acceptedLength: length });
      return;
    }
  }

  /** Tells a server that has come to run where the focus is: it has not seen how it came there. */
  greet(): void {
    const { client } = this.server();
    if (client && client !== this.greeted) {
      this.focused(vscode.window.activeTextEditor?.document);
    }
    this.greeted = client;
  }

  private focused(document: vscode.TextDocument | undefined): void {
    const isServed = document && SCHEMES.includes(document.uri.scheme);
    this.tell('textDocument/didFocus', isServed ? { textDocument: { uri: document.uri.toString() } } : {});
  }

  private tell(method: string, params: unknown): void {
    this.server()
      .client?.sendNotification(method, params)
      .catch(() => {});
  }

  dispose(): void {
    for (const listener of this.listeners) {
      listener.dispose();
    }
  }
}
