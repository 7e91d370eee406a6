// What the status item says: from the state of the server and the last silence to words.
// No editor in here.

import { MOST_STOPS } from './backoff';
import { clock, isSnoozed } from './snooze';

/** The answer to `nestling/status`, as far as it is shown. */
export interface ServerStatus {
  version?: string;
  enabled?: boolean;
  model?: { state: 'unused' | 'loading' | 'ready' | 'failed' | 'restarting'; name?: string; reason?: string };
  lastSilence?: { kind: string; reason: string; uri: string } | null;
  counts?: { requests: number; answered: number; cancelled: number; shown: number; accepted: number };
  latencyMs?: { p50: number | null; p95: number | null };
  index?: { state: 'starting' | 'reading' | 'ready'; files?: number; of?: number; tokens?: number } | null;
  remote?: {
    state: 'unused' | 'ready' | 'failing' | 'refused';
    url?: string;
    reason?: string | null;
    answerMs?: { p50: number | null };
  } | null;
}

/** What the extension does with the server. */
export type Phase =
  | { kind: 'stopped' }
  | { kind: 'starting' }
  | { kind: 'running' }
  /** It stopped by itself and is started again after a pause. */
  | { kind: 'pausing'; stops: number; pauseMs: number }
  /** It cannot be used until the user does something. */
  | { kind: 'failed'; reason: string };

export interface Known {
  phase: Phase;
  status?: ServerStatus;
  /** Why the program is not the one inside the extension. */
  instead?: string;
  /** Why nothing can be shown in the active editor. */
  notHere?: string;
  snoozedUntil?: number;
  /** Of the text in the active editor. */
  uri?: string;
  now: number;
}

export interface View {
  /** With the names of icons in it, as `$(…)`. */
  text: string;
  severity: 'none' | 'warning' | 'error';
  /** What the server does. */
  state: string;
  /** Why nothing was shown; undefined where nothing is known to be missing. */
  silence?: string;
  /** Figures, each a line of its own. */
  figures: string[];
}

const NAME = 'nestling';

export function describe(known: Known): View {
  const view = { ...look(known), figures: figures(known) };
  const silence = whySilent(known);
  return silence === undefined ? view : { ...view, silence };
}

function look(known: Known): Omit<View, 'silence' | 'figures'> {
  const { phase, status } = known;
  switch (phase.kind) {
    case 'stopped':
      return { text: `$(circle-slash) ${NAME}`, severity: 'none', state: 'stopped' };
    case 'starting':
      return { text: `$(loading~spin) ${NAME}`, severity: 'none', state: 'starting' };
    case 'pausing': {
      const state = `the server stopped by itself (${phase.stops} of ${MOST_STOPS}) and starts again in ${phase.pauseMs / 1000} s`;
      return { text: `$(warning) ${NAME}`, severity: 'warning', state };
    }
    case 'failed':
      return { text: `$(error) ${NAME}`, severity: 'error', state: phase.reason };
    case 'running':
  }
  if (known.notHere !== undefined) {
    return { text: `$(circle-slash) ${NAME}`, severity: 'none', state: 'running' };
  }
  if (isSnoozed(known.snoozedUntil, known.now)) {
    return { text: `$(bell-slash) ${NAME}`, severity: 'none', state: `snoozed until ${clock(known.snoozedUntil)}` };
  }
  const { model, index, remote } = status ?? {};
  if (model?.state === 'failed') {
    const state = `the model could not be loaded: ${model.reason ?? 'no reason is known'}`;
    return { text: `$(error) ${NAME}`, severity: 'error', state };
  }
  if (model?.state === 'restarting') {
    const state = `the engine failed and is being restarted: ${model.reason ?? 'no reason is known'}`;
    return { text: `$(warning) ${NAME}`, severity: 'warning', state };
  }
  if (model?.state === 'loading') {
    return { text: `$(loading~spin) ${NAME}`, severity: 'none', state: 'loading the model' };
  }
  if (index?.state === 'reading') {
    const state = `ready; reading the workspace, ${index.files ?? 0} of ${index.of ?? 0} files`;
    return { text: `$(loading~spin) ${NAME}`, severity: 'none', state };
  }
  if (remote?.state === 'failing' || remote?.state === 'refused') {
    const state = `ready, without the remote model: ${remote.reason ?? 'no reason is known'}`;
    return { text: `$(warning) ${NAME}`, severity: 'warning', state };
  }
  return { text: `$(sparkle) ${NAME}`, severity: 'none', state: 'ready' };
}

function whySilent(known: Known): string | undefined {
  const { phase, status } = known;
  if (phase.kind !== 'running') {
    return phase.kind === 'failed' ? undefined : 'the server is not running yet';
  }
  if (known.notHere !== undefined) {
    return known.notHere;
  }
  if (isSnoozed(known.snoozedUntil, known.now)) {
    return `it is snoozed until ${clock(known.snoozedUntil)}`;
  }
  const last = status?.lastSilence;
  if (!last) {
    return undefined;
  }
  const elsewhere = last.uri !== known.uri && known.uri !== undefined;
  return elsewhere ? `${last.reason} (in ${fileName(last.uri)})` : last.reason;
}

function fileName(uri: string): string {
  const name = uri.slice(uri.lastIndexOf('/') + 1);
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

function figures({ status, instead }: Known): string[] {
  if (!status) {
    return [];
  }
  const { model, index, remote, counts, latencyMs, version } = status;
  const lines = [];
  if (model) {
    lines.push(`model: ${model.state}${model.name ? `, ${model.name}` : ''}`);
  }
  if (remote?.url) {
    const time = remote.answerMs?.p50 == null ? '' : `, p50 ${remote.answerMs.p50.toFixed(0)} ms`;
    lines.push(`remote model: ${remote.state}, ${remote.url}${time}`);
  }
  if (index?.state === 'ready') {
    lines.push(`workspace: ${index.files ?? 0} files, ${index.tokens ?? 0} tokens known`);
  }
  if (counts) {
    lines.push(`shown: ${counts.shown} of ${counts.requests} requests, accepted: ${counts.accepted}`);
  }
  if (latencyMs?.p50 != null && latencyMs.p95 != null) {
    lines.push(`answers: p50 ${latencyMs.p50.toFixed(0)} ms, p95 ${latencyMs.p95.toFixed(0)} ms`);
  }
  if (version) {
    lines.push(`program: ${version}`);
  }
  if (instead) {
    lines.push(instead);
  }
  return lines;
}
