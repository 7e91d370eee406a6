// One VS Code for all tests: code-server with a fresh profile, a page of Chromium, and the probe in the extension host.

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const HERE = path.dirname(fileURLToPath(import.meta.url));
export const ROOT = path.resolve(HERE, '../../..');
export const CACHE = path.join(HERE, '.cache');

/** What takes longer in the extension host waits for something that does not come, as an answer to a dialog. */
const VS_MS = 15_000;

const SETTINGS = {
  'telemetry.telemetryLevel': 'off',
  'workbench.startupEditor': 'none',
  'workbench.enableExperiments': false,
  'workbench.colorTheme': 'Default Dark Modern',
  'extensions.autoCheckUpdates': false,
  'extensions.autoUpdate': false,
  'extensions.ignoreRecommendations': true,
  'chat.disableAIFeatures': true,
  'security.workspace.trust.startupPrompt': 'never',
  'git.openRepositoryInParentFolders': 'never',
  'git.autofetch': false,
  'files.autoSave': 'off',
  'files.hotExit': 'off',
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'editor.minimap.enabled': false,
  'editor.stickyScroll.enabled': false,
  'editor.quickSuggestions': { other: 'off', comments: 'off', strings: 'off' },
  'editor.wordBasedSuggestions': 'off',
};

/** Calls `ask` until it answers something that is not falsy, or gives up. */
export async function until(what, ask, limitMs = 10_000) {
  for (const end = Date.now() + limitMs; ; await sleep(40)) {
    const found = await ask();
    if (found) {
      return found;
    }
    if (Date.now() > end) {
      throw new Error(`waited ${limitMs} ms for ${what}`);
    }
  }
}

/** Runs in the page: keeps what is displayed at each key, and how long a key took to bring ghost text to the screen. */
function watch() {
  const displayed = () => {
    const all = (css) => [...document.querySelectorAll(`.editor-instance ${css}`)].map((element) => element.textContent);
    // What has several lines below the first has a row for each.
    const rows = all('.suggest-preview-text .view-line');
    const lines = [all('.ghost-text-decoration').join(''), ...(rows.length > 0 ? rows : all('.suggest-preview-text'))];
    // Spaces are drawn as others are, an empty line as one.
    return lines.join('\n').replace(/[\u00a0\u00b7]/g, ' ').replace(/\u200b/g, '');
  };
  const state = { keys: [], latencies: [], swallow: false, lastKey: undefined };
  window.nestlingTest = { displayed, state };
  window.addEventListener(
    'keydown',
    (event) => {
      const shown = displayed();
      // An acceptance of nothing would be an ordinary Tab.
      if (state.swallow && (event.key === 'Tab' || (event.ctrlKey && event.key === 'ArrowRight')) && !shown) {
        event.preventDefault();
        event.stopImmediatePropagation();
        state.keys.push({ key: 'swallowed' });
        return;
      }
      state.keys.push({ key: event.key, ctrl: event.ctrlKey, shown });
      state.lastKey = event.key.length === 1 ? { at: event.timeStamp, hadText: shown !== '' } : undefined;
    },
    true,
  );
  new MutationObserver(() => {
    const key = state.lastKey;
    if (!key || key.hadText || !displayed()) {
      return;
    }
    state.lastKey = undefined;
    // The frame with the change is painted between its callback and the next message.
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => state.latencies.push(performance.now() - key.at);
      port2.postMessage(0);
    });
  }).observe(document, { subtree: true, childList: true, characterData: true });
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Editor {
  /** Starts everything in a new folder; `extensions` are .vsix files. Without trust the workspace is in restricted mode.
   * Without a workspace it is a repository with a copy of the samples. */
  static async open(folder, extensions, { environment = {}, isTrusted = true, workspace } = {}) {
    const editor = new Editor();
    await editor.#open(folder, extensions, environment, isTrusted, workspace);
    return editor;
  }

  async #open(folder, extensions, environment, isTrusted, workspace) {
    this.folder = folder;
    this.workspace = workspace ?? path.join(folder, 'pantry');
    const data = path.join(folder, 'user');
    fs.mkdirSync(path.join(data, 'User'), { recursive: true });
    fs.mkdirSync(path.join(folder, 'home'), { recursive: true });
    if (!workspace) {
      fs.cpSync(path.join(ROOT, 'tests/data/projects'), this.workspace, { recursive: true });
      this.git('init', '-q');
      this.git('add', '.');
      this.git('commit', '-qm', 'begin');
    }
    fs.writeFileSync(path.join(data, 'User', 'settings.json'), JSON.stringify({ ...SETTINGS, 'security.workspace.trust.enabled': !isTrusted }));
    fs.writeFileSync(path.join(folder, 'code.yaml'), '');
    this.probeFile = path.join(folder, 'probe.port');
    const port = await freePort();
    this.env = {
      ...process.env,
      HOME: path.join(folder, 'home'),
      XDG_CACHE_HOME: path.join(folder, 'home', '.cache'),
      XDG_DATA_HOME: path.join(folder, 'home', '.local'),
      // Only what the system has: no program of ours by chance.
      PATH: `${CACHE}/bin:/usr/local/bin:/usr/bin:/bin`,
      PROBE_FILE: this.probeFile,
      EXTENSIONS_GALLERY: JSON.stringify({ serviceUrl: 'http://127.0.0.1:9/none' }),
      ...environment,
    };
    const server = path.join(CACHE, 'code/node_modules/code-server/out/node/entry.js');
    const where = ['--config', path.join(folder, 'code.yaml'), '--user-data-dir', data, '--extensions-dir', path.join(folder, 'extensions')];
    const installs = extensions.flatMap((file) => ['--install-extension', file]);
    execFileSync(process.execPath, [server, ...where, ...installs], { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    const options = ['--auth', 'none', '--bind-addr', `127.0.0.1:${port}`, '--disable-telemetry', '--disable-update-check'];
    const log = fs.openSync(path.join(folder, 'code.log'), 'a');
    this.code = spawn(process.execPath, [server, ...where, ...options, ...(isTrusted ? ['--disable-workspace-trust'] : []), '--disable-getting-started-override'], {
      env: this.env,
      stdio: ['ignore', log, log],
    });
    const { chromium } = await import(path.join(CACHE, 'playwright/node_modules/playwright-core/index.mjs'));
    const url = `http://127.0.0.1:${port}/`;
    await until('code-server', () => fetch(`${url}healthz`).then((answer) => answer.ok, () => false), 60_000);
    this.browser = await chromium.launch({
      executablePath: path.join(CACHE, 'bin/chromium'),
      headless: true,
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    });
    const context = await this.browser.newContext({ viewport: { width: 1100, height: 700 } });
    await context.addInitScript(watch);
    this.page = await context.newPage();
    await this.page.goto(`${url}?folder=${this.workspace}`, { waitUntil: 'domcontentloaded' });
    await until('the probe', () => fs.existsSync(this.probeFile), 60_000);
  }

  git(...args) {
    execFileSync('git', ['-C', this.workspace, '-c', 'user.name=t', '-c', 'user.email=t@t', ...args]);
  }

  async close() {
    await this.browser?.close();
    this.code?.kill();
    // Its children live on to let a page come back; the folder's name is theirs alone.
    const { stdout } = spawnSync('pgrep', ['-f', this.folder], { encoding: 'utf8' });
    for (const pid of stdout.split('\n').filter(Boolean)) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {}
    }
  }

  /** Calls a function in the extension host, with the `vscode` module and the arguments. */
  async vs(run, ...args) {
    const body = JSON.stringify({ source: run.toString(), args });
    // An extension host that starts again listens elsewhere; what nobody listened to may be asked again.
    const ask = () =>
      fetch(`http://127.0.0.1:${fs.readFileSync(this.probeFile, 'utf8')}/`, { method: 'POST', body, signal: AbortSignal.timeout(VS_MS) }).catch((error) => {
        if (error.cause?.code !== 'ECONNREFUSED') {
          throw new Error(`the probe: ${error.cause?.code ?? error}`);
        }
      });
    const answer = await (await until('the probe', ask)).json();
    if (answer.error) {
      throw new Error(answer.error);
    }
    return answer.result;
  }

  command(name, ...args) {
    return this.vs((vscode, name, args) => void vscode.commands.executeCommand(name, ...args), name, args);
  }

  /** Sets a setting of the user; undefined takes it away. */
  set(name, value) {
    return this.vs(
      (vscode, name, value) => vscode.workspace.getConfiguration().update(name, value ?? undefined, vscode.ConfigurationTarget.Global),
      name,
      value ?? null,
    );
  }

  /** Opens a file of the workspace with a text, the cursor where `|` is, and waits until the editor has the focus. */
  async show(name, marked, { language } = {}) {
    const at = marked.lastIndexOf('|');
    const text = marked.slice(0, at) + marked.slice(at + 1);
    if (name) {
      fs.writeFileSync(path.join(this.workspace, name), text);
    }
    await this.vs(
      async (vscode, file, text, at, language) => {
        // Without a question about what was changed.
        while (vscode.window.tabGroups.all.some((group) => group.tabs.length > 0)) {
          await vscode.commands.executeCommand('workbench.action.revertAndCloseActiveEditor');
        }
        const document = await vscode.workspace.openTextDocument(file ? vscode.Uri.file(file) : { content: text, language });
        const editor = await vscode.window.showTextDocument(document, { preview: false });
        if (document.getText() !== text) {
          await vscode.commands.executeCommand('workbench.action.files.revert');
        }
        const place = document.positionAt(at);
        editor.selection = new vscode.Selection(place, place);
        editor.revealRange(new vscode.Range(place, place), vscode.TextEditorRevealType.InCenter);
      },
      name ? path.join(this.workspace, name) : '',
      text,
      at,
      language ?? '',
    );
    await this.focus();
    // The cursor is moved by a message to the page; a key must not overtake it.
    await sleep(250);
  }

  async focus() {
    // Asked of the extension host, whose messages arrive in their order: behind the cursor that was just set.
    await this.vs((vscode) => vscode.commands.executeCommand('workbench.action.focusActiveEditorGroup'));
    await until('the focus in the editor', () => this.page.evaluate(() => document.activeElement?.closest('.editor-instance') != null));
  }

  /** The text of the active document and the offset of the cursor in it. */
  document() {
    return this.vs((vscode) => {
      const { document, selection } = vscode.window.activeTextEditor;
      return { text: document.getText(), at: document.offsetAt(selection.active) };
    });
  }

  /** The ghost text on the screen; empty where there is none. */
  ghost() {
    return this.page.evaluate(() => window.nestlingTest.displayed());
  }

  /** The ghost text once it has been the same for a while. */
  async settled(limitMs = 3000) {
    let last = await this.ghost();
    let since = Date.now();
    for (const end = since + limitMs; Date.now() < end; await sleep(40)) {
      const now = await this.ghost();
      if (now !== last) {
        [last, since] = [now, Date.now()];
      } else if (Date.now() - since > (now ? 250 : 800)) {
        break;
      }
    }
    return last;
  }

  /** What the status item says to those who hear it. */
  said() {
    return this.page.evaluate(() => {
      const items = [...document.querySelectorAll('.statusbar-item')];
      const ours = items.find((item) => /nestling\.status/.test(item.id));
      return ours?.getAttribute('aria-label') ?? ours?.querySelector('[aria-label]')?.getAttribute('aria-label') ?? '';
    });
  }

  /** The messages on the screen. */
  messages() {
    return this.page.evaluate(() => [...document.querySelectorAll('.notifications-toasts .notification-list-item-message')].map((m) => m.textContent));
  }

  async clearMessages() {
    await this.command('notifications.clearAll');
    await until('no messages', async () => (await this.messages()).length === 0).catch(async (error) => {
      throw new Error(`${error.message}; there are: ${(await this.messages()).join(' | ')}`);
    });
  }

  /** Chooses the entry of the open menu or pick that contains a text. */
  async choose(list, text) {
    const row = this.page.locator(`${list} .monaco-list-row`, { hasText: text }).first();
    await row.waitFor({ timeout: 20_000 });
    await row.click();
  }

  ready(limitMs = 30_000) {
    return until('a server that is ready', async () => /^nestling: (ready|running)/.test(await this.said()), limitMs);
  }
}
