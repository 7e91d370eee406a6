// The version of the program: reading and comparing.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareVersions, readVersion } from '../src/version';

test('the version is read from what the program prints', () => {
  assert.equal(readVersion('nestling 0.1.0\n'), '0.1.0');
  assert.equal(readVersion('nestling 1.20.3-beta.1 (abc)\n'), '1.20.3-beta.1');
  assert.equal(readVersion('nest 0.1.0'), undefined);
  assert.equal(readVersion(''), undefined);
});

test('versions are compared by number, and a pre-release is older than its release', () => {
  const sorted = ['0.0.9', '0.1.0-rc.1', '0.1.0', '0.2.0', '0.10.0', '1.0.0'];
  for (let i = 1; i < sorted.length; i++) {
    assert.ok(compareVersions(sorted[i - 1]!, sorted[i]!) < 0, sorted[i]);
    assert.ok(compareVersions(sorted[i]!, sorted[i - 1]!) > 0, sorted[i]);
  }
  assert.equal(compareVersions('0.1.0', '0.1.0+build'), 0);
});
