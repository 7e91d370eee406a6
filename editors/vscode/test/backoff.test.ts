// Growing pauses between starts, and an end of them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MOST_STOPS, pauseAfter, recent } from '../src/backoff';

test('the pauses grow, and after the last there is none', () => {
  const stops: number[] = [];
  const pauses = Array.from({ length: MOST_STOPS }, () => {
    stops.push(1000);
    return pauseAfter(stops, 1000);
  });
  assert.deepEqual(pauses, [500, 1000, 2000, 4000, undefined]);
});

test('stops of long ago do not count', () => {
  const now = 1_000_000;
  assert.deepEqual(recent([0, now - 180_000, now - 179_999, now], now), [now - 179_999, now]);
  assert.equal(pauseAfter([0, 1, 2, 3, 4, now], now), 500);
});
