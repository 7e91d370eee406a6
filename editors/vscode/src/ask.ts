// Questions about the workspace. The answer appears beside the editor as it is written, in a page of this extension, with
// the places that it was made of. A question that is asked on such a page goes on with its talk.

import { randomUUID } from 'node:crypto';
import * as vscode from 'vscode';
import { ExecuteCommandRequest, ProgressType, type Range } from 'vscode-languageclient/node';
import type { Server } from './client';

const SCHEME = 'nestling-answer';

interface Message {
  role: 'user' | 'assistant';
  content: string;
}

interface Talk {
  text: string;
  messages: Message[];
  /** What was said beside an answer; once is enough. */
  notice?: string;
}

/** What `nestling.chat` returns. */
interface Reply {
  text: string;
  sources: { uri: string; range: Range; title: string; place: string }[];
  notice: string | null;
  cancelled: boolean;
}

const talks = new Map<string, Talk>();
const changes = new vscode.EventEmitter<vscode.Uri>();

/** Lets the editor read the pages. */
export function provideAnswers(): vscode.Disposable {
  const provider: vscode.TextDocumentContentProvider = {
    onDidChange: changes.event,
    provideTextDocumentContent: (uri) => talks.get(uri.toString())?.text ?? '',
  };
  return vscode.Disposable.from(
    vscode.workspace.registerTextDocumentContentProvider(SCHEME, provider),
    vscode.workspace.onDidCloseTextDocument((document) => talks.delete(document.uri.toString())),
  );
}

/** Asks for a question, and has it answered; a selection says what it is about. */
export async function ask(server: Server): Promise<void> {
  const { client } = server;
  if (!client) {
    throw new Error('the server is not running');
  }
  const editor = vscode.window.activeTextEditor;
  const known = editor && talks.get(editor.document.uri.toString());
  const about = editor && !known && !editor.selection.isEmpty ? editor : undefined;
  const prompt = known ? 'Go on with the talk' : about ? 'What about the selection?' : 'What about this workspace?';
  const question = await vscode.window.showInputBox({ title: 'nestling', prompt });
  if (!question?.trim()) {
    return;
  }
  const uri = known ? editor.document.uri : vscode.Uri.from({ scheme: SCHEME, path: `/Answer ${talks.size + 1}.md`, query: randomUUID() });
  const talk = known ?? { text: '', messages: [] };
  talks.set(uri.toString(), talk);
  const write = (text: string): void => {
    talk.text += text;
    changes.fire(uri);
  };
  write(`${talk.text ? '\n' : ''}# ${question}\n\n`);
  const column = known ? vscode.ViewColumn.Active : vscode.ViewColumn.Beside;
  await vscode.window.showTextDocument(uri, { viewColumn: column, preserveFocus: true, preview: false });
  talk.messages.push({ role: 'user', content: question });
  const partialResultToken = randomUUID();
  let told = '';
  const listening = client.onProgress(new ProgressType<{ text: string }>(), partialResultToken, ({ text }) => {
    told += text;
    write(text);
  });
  const argument = {
    messages: talk.messages,
    partialResultToken,
    ...(about && {
      textDocument: { uri: about.document.uri.toString() },
      range: client.code2ProtocolConverter.asRange(about.selection),
    }),
  };
  const options = { location: vscode.ProgressLocation.Notification, title: 'nestling: answering', cancellable: true };
  try {
    const reply = await vscode.window.withProgress(
      options,
      (_, token) =>
        client.sendRequest(ExecuteCommandRequest.type, { command: 'nestling.chat', arguments: [argument] }, token) as Promise<Reply>,
    );
    talk.messages.push({ role: 'assistant', content: reply.text });
    // The last pieces may come behind the whole.
    const rest = reply.text.startsWith(told) ? reply.text.slice(told.length) : '';
    write(`${rest}\n${after(reply, talk)}`);
  } catch (error) {
    talk.messages.pop();
    write(`\n*${error instanceof Error ? error.message : String(error)}*\n`);
  } finally {
    listening.dispose();
  }
}

/** The places of an answer as links, and what else is to be said of it. */
function after({ sources, notice }: Reply, talk: Talk): string {
  const links = sources.map(({ uri, range, title, place }) => `- [${place}](${uri}#L${range.start.line + 1}) ${title}\n`);
  const isNew = notice !== null && notice !== talk.notice;
  talk.notice = notice ?? talk.notice;
  return `${links.length ? `\nSources:\n\n${links.join('')}` : ''}${isNew ? `\n*${notice}*\n` : ''}`;
}
