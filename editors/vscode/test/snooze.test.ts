// Silence for some minutes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clock, isSnoozed, snoozeUntil } from '../src/snooze';

test('a snooze ends on time', () => {
  const until = snoozeUntil(1000, 5);
  assert.equal(until, 301_000);
  assert.ok(isSnoozed(until, 300_999));
  assert.ok(!isSnoozed(until, 301_000));
  assert.ok(!isSnoozed(undefined, 0));
});

test('the clock has two digits each', () => {
  assert.equal(clock(new Date(2026, 0, 1, 4, 5).getTime()), '04:05');
});
