// The language server as a process and the client that talks to it: start, stop, and another start after a crash.
// What it is doing is told through `onChange`; nothing here speaks to the user.

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import * as vscode from 'vscode';
import {
  CloseAction,
  ErrorAction,
  LanguageClient,
  type LanguageClientOptions,
  type Middleware,
  RevealOutputChannelOn,
} from 'vscode-languageclient/node';
import { MOST_STOPS, pauseAfter, recent } from './backoff';
import { findProgram, NoProgram, type Program } from './binary';
import { SCHEMES } from './documents';
import { forServer, SECTION, text } from './settings';
import type { Phase, ServerStatus } from './status';

/** A server gets this time to end before its process is ended. */
const STOP_MS = 2000;

/** A client that writes its errors into the output and opens no message: the status item speaks for it. */
class QuietClient extends LanguageClient {
  override error(message: string, data?: unknown): void {
    super.error(message, data, false);
  }
}

/** Writes what a program says line by line, with the levels and times that it writes itself. */
function log(input: Readable, output: vscode.LogOutputChannel): void {
  createInterface({ input, crlfDelay: Infinity }).on('line', (line) => output.appendLine(line));
}

/** One run of the program. */
interface Run {
  child: ChildProcess;
  client: LanguageClient;
  /** The end is wanted. */
  isOver: boolean;
}

export class Server {
  phase: Phase = { kind: 'stopped' };
  /** The last status that the server sent. */
  status: ServerStatus | undefined;
  /** The program of the last start that got so far. */
  program: Program | undefined;

  private readonly changes = new vscode.EventEmitter<void>();
  readonly onChange = this.changes.event;

  private run: Run | undefined;
  private stops: number[] = [];
  private pause: NodeJS.Timeout | undefined;
  /** Counts wishes to start or stop, so that a slow start notices that it is not wanted any more. */
  private wish = 0;

  constructor(
    private readonly extension: vscode.Extension<unknown>,
    private readonly output: vscode.LogOutputChannel,
    private readonly middleware: Middleware,
  ) {}

  /** The client, while the server answers. */
  get client(): LanguageClient | undefined {
    return this.phase.kind === 'running' ? this.run?.client : undefined;
  }

  /** Starts the server, after ending the one that runs. Never rejects: what goes wrong is a phase. */
  async start(): Promise<void> {
    this.stops = [];
    const stopped = this.stop();
    const wish = this.wish;
    await stopped;
    // Whoever wished something else meanwhile sees to it.
    if (wish === this.wish) {
      await this.launch(wish);
    }
  }

  async stop(): Promise<void> {
    this.wish++;
    clearTimeout(this.pause);
    const run = this.run;
    this.run = undefined;
    this.become({ kind: 'stopped' });
    if (run) {
      await end(run);
    }
  }

  /** Passes the settings on. */
  async configure(): Promise<void> {
    const settings = { [SECTION]: forServer(this.extension) };
    await this.client?.sendNotification('workspace/didChangeConfiguration', { settings });
  }

  private async launch(wish: number): Promise<void> {
    this.become({ kind: 'starting' });
    try {
      const extension = this.extension.extensionPath;
      this.program = await findProgram({ setting: text('path'), extension });
      const child = await this.spawn(this.program);
      if (wish !== this.wish) {
        child.kill();
        return;
      }
      const client = this.connect(child);
      const run = { child, client, isOver: false };
      this.run = run;
      child.once('exit', (code, signal) => this.exited(run, signal ?? `exit code ${code}`));
      await client.start();
      if (this.run === run && !run.isOver) {
        this.become({ kind: 'running' });
      }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.output.error(reason);
      if (this.run && wish === this.wish) {
        await giveTime(this.run.child);
      }
      // A process that ended has told of itself by now.
      if (wish !== this.wish || this.phase.kind !== 'starting') {
        return;
      }
      const run = this.run;
      this.run = undefined;
      this.become({ kind: 'failed', reason: error instanceof NoProgram ? reason : `The server did not start: ${reason}` });
      if (run) {
        await end(run);
      }
    }
  }

  private spawn(program: Program): Promise<ChildProcess> {
    const model = text('model');
    const args = model ? ['serve', '--model', model] : ['serve'];
    if (program.instead) {
      this.output.warn(program.instead);
    }
    this.output.info(`starting ${program.path} ${args.join(' ')} (${program.version})`);
    const child = spawn(program.path, args, { env: { ...process.env, NESTLING_LOG: text('log') || 'warn' } });
    // A process that dies while it is written to is a stop like any other.
    child.stdin.on('error', () => {});
    return new Promise((resolve, reject) => {
      child.once('spawn', () => resolve(child));
      child.once('error', reject);
    });
  }

  private connect(child: ChildProcess): LanguageClient {
    const options: LanguageClientOptions = {
      documentSelector: SCHEMES.map((scheme) => ({ scheme })),
      initializationOptions: { [SECTION]: forServer(this.extension) },
      outputChannel: this.output,
      revealOutputChannelOn: RevealOutputChannelOn.Never,
      stdioOptions: { stdout: log, stderr: log },
      middleware: this.middleware,
      initializationFailedHandler: () => false,
      errorHandler: {
        error: (_error, _message, count) => ({
          action: (count ?? 0) <= 3 ? ErrorAction.Continue : ErrorAction.Shutdown,
          handled: true,
        }),
        closed: () => ({ action: CloseAction.DoNotRestart, handled: true }),
      },
    };
    const client = new QuietClient(SECTION, SECTION, () => Promise.resolve(child), options);
    client.onNotification('nestling/statusChanged', (status: ServerStatus) => {
      this.status = status;
      this.changes.fire();
    });
    return client;
  }

  /** The process is gone. If nobody wanted that, it is started again, but not for ever. */
  private exited(run: Run, how: string): void {
    const isWanted = run.isOver || this.run !== run;
    this.output.info(`the server ended: ${how}`);
    if (isWanted) {
      return;
    }
    run.isOver = true;
    this.run = undefined;
    this.status = undefined;
    void dispose(run.client);
    const now = Date.now();
    this.stops = [...recent(this.stops, now), now];
    const pauseMs = pauseAfter(this.stops, now);
    if (pauseMs === undefined) {
      const reason = `The server stopped ${MOST_STOPS} times in a row (the last time: ${how}) and is not started again.`;
      this.become({ kind: 'failed', reason });
      return;
    }
    this.become({ kind: 'pausing', stops: this.stops.length, pauseMs });
    const wish = this.wish;
    this.pause = setTimeout(() => wish === this.wish && void this.launch(wish), pauseMs);
  }

  private become(phase: Phase): void {
    this.phase = phase;
    if (phase.kind !== 'running') {
      this.status = undefined;
    }
    this.changes.fire();
  }
}

/** Waits until a process has ended, or for a moment. */
async function giveTime(child: ChildProcess): Promise<void> {
  await Promise.race([ended(child), new Promise((resolve) => setTimeout(resolve, STOP_MS))]);
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) {
      resolve();
    }
    child.once('exit', () => resolve());
  });
}

/** Ends a run in good order, or after some time without. */
async function end(run: Run): Promise<void> {
  run.isOver = true;
  await dispose(run.client);
  const late = setTimeout(() => run.child.kill('SIGKILL'), STOP_MS);
  await ended(run.child);
  clearTimeout(late);
}

/** Takes all that a client registered back, whatever state it is in. */
async function dispose(client: LanguageClient): Promise<void> {
  try {
    await client.dispose(STOP_MS);
  } catch {
    // It was not running.
  }
}
