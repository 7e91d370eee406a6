// Which documents are served, and the reasons why others are not.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLanguageOn, languageName, whyNotHere } from '../src/documents';

const wishes = { enable: true, languages: {}, ghostText: true };
const python = { scheme: 'file', languageId: 'python' };

test('files and unsaved texts are served', () => {
  assert.equal(whyNotHere(python, wishes), undefined);
  assert.equal(whyNotHere({ scheme: 'untitled', languageId: 'plaintext' }, wishes), undefined);
});

test('every other view has its reason', () => {
  assert.match(whyNotHere({ scheme: 'output', languageId: 'Log' }, wishes) ?? '', /view of output/);
  assert.match(whyNotHere({ scheme: 'git', languageId: 'python' }, wishes) ?? '', /another version/);
  assert.match(whyNotHere({ scheme: 'foo', languageId: 'python' }, wishes) ?? '', /“foo”/);
  assert.match(whyNotHere(undefined, wishes) ?? '', /no text editor/);
});

test('what is switched off is said, the general before the special', () => {
  const off = { python: false };
  assert.match(whyNotHere(python, { ...wishes, languages: off }) ?? '', /python is switched off/);
  assert.match(whyNotHere(python, { ...wishes, enable: false, languages: off }) ?? '', /suggestions are/);
  assert.match(whyNotHere(python, { ...wishes, ghostText: false }) ?? '', /inlineSuggest/);
});

test('languages have the names of the server', () => {
  assert.equal(languageName('typescriptreact'), 'tsx');
  assert.equal(languageName('yaml'), 'yaml');
  assert.equal(isLanguageOn({ bash: false }, 'shellscript'), false);
  assert.equal(isLanguageOn(undefined, 'rust'), true);
});
