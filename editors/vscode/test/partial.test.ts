// What counts as a suggestion taken in part.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { acceptedLength } from '../src/partial';

test('a word that goes on with the suggestion counts, with what stood there before', () => {
  assert.equal(acceptedLength('return total / count', 'return ', 'total'), 12);
  assert.equal(acceptedLength('a\r\n  b1', '', 'a\r\n  b1'), 7);
});

test('the length counts UTF-16 units', () => {
  assert.equal(acceptedLength('🐣🐥x = 1', '', '🐣🐥'), 4);
});

test('a key, an Enter with its indentation and other text do not count', () => {
  assert.equal(acceptedLength('total', '', 't'), undefined);
  assert.equal(acceptedLength('x\n    y', 'x', '\n    '), undefined);
  assert.equal(acceptedLength('total', '', 'tot.'), undefined);
  assert.equal(acceptedLength('total', 'a', 'total'), undefined);
});
