// The words of the status item.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describe, type Known, type ServerStatus } from '../src/status';

const uri = 'file:///a/b.py';
const ready: ServerStatus = {
  version: '0.1.0',
  model: { state: 'ready', name: 'default' },
  lastSilence: { kind: 'LowConfidence', reason: 'the model is not sure enough', uri },
  counts: { requests: 4, answered: 4, cancelled: 0, shown: 3, accepted: 1 },
  latencyMs: { p50: 20.4, p95: 61 },
  index: { state: 'ready', files: 7, tokens: 900 },
};

function view(known: Partial<Known>) {
  return describe({ phase: { kind: 'running' }, status: ready, uri, now: 0, ...known });
}

test('a running server says why it was silent', () => {
  const { text, state, silence, severity } = view({});
  assert.deepEqual([text, state, severity], ['$(sparkle) nestling', 'ready', 'none']);
  assert.equal(silence, 'the model is not sure enough');
  assert.equal(view({ uri: 'file:///other.rs' }).silence, 'the model is not sure enough (in b.py)');
  assert.equal(view({ status: { ...ready, lastSilence: null } }).silence, undefined);
});

test('what the extension knows comes before what the server said', () => {
  assert.equal(view({ notHere: 'python is switched off' }).silence, 'python is switched off');
  const until = new Date(2026, 0, 1, 14, 5).getTime();
  assert.match(view({ snoozedUntil: until, now: until - 1 }).silence ?? '', /until 14:05/);
  assert.equal(view({ snoozedUntil: until, now: until }).state, 'ready');
});

test('troubles are seen', () => {
  const failed = view({ phase: { kind: 'failed', reason: 'The nestling program was not found.' } });
  assert.deepEqual([failed.severity, failed.state], ['error', 'The nestling program was not found.']);
  const pausing = view({ phase: { kind: 'pausing', stops: 2, pauseMs: 1000 } });
  assert.deepEqual([pausing.severity, pausing.silence], ['warning', 'the server is not running yet']);
  assert.match(pausing.state, /2 of 5.*1 s/);
  const model = view({ status: { model: { state: 'failed', reason: 'not a GGUF file' } } });
  assert.deepEqual([model.severity, model.state], ['error', 'the model could not be loaded: not a GGUF file']);
  assert.equal(view({ status: { model: { state: 'loading' } } }).state, 'loading the model');
});

test('a remote model that fails is seen, and one that answers is a figure', () => {
  const remote = { state: 'failing' as const, url: 'http://gpu:8000', reason: 'http://gpu:8000 refuses the key (401)' };
  const failing = view({ status: { ...ready, remote } });
  assert.equal(failing.severity, 'warning');
  assert.equal(failing.state, 'ready, without the remote model: http://gpu:8000 refuses the key (401)');
  const answers = view({ status: { ...ready, remote: { ...remote, state: 'ready', answerMs: { p50: 80.2 } } } });
  assert.deepEqual([answers.severity, answers.state], ['none', 'ready']);
  assert.equal(answers.figures[1], 'remote model: ready, http://gpu:8000, p50 80 ms');
});

test('the figures are those that are known', () => {
  assert.deepEqual(view({}).figures, [
    'model: ready, default',
    'workspace: 7 files, 900 tokens known',
    'shown: 3 of 4 requests, accepted: 1',
    'answers: p50 20 ms, p95 61 ms',
    'program: 0.1.0',
  ]);
  assert.equal(view({ instead: 'Another is used.' }).figures.at(-1), 'Another is used.');
  assert.deepEqual(view({ status: undefined }).figures, []);
});
