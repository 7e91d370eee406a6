// Which documents are served, under which name the server knows their language, and why others are not.
// No editor in here.

/** What the server can do something with: files, and texts that are not saved yet. Output, diffs against a repository,
 * search results and cells of notebooks have schemes of their own and are left alone. */
export const SCHEMES: readonly string[] = ['file', 'untitled'];

/** Names of the server that differ from those of the editor. */
const NAMES: Readonly<Record<string, string>> = {
  javascriptreact: 'javascript',
  json5: 'json',
  jsonc: 'json',
  shellscript: 'bash',
  typescriptreact: 'tsx',
};

/** The name of a language in the setting `nestling.languages`. */
export function languageName(languageId: string): string {
  return NAMES[languageId] ?? languageId;
}

/** Whether a language is switched on; one that is not named is. */
export function isLanguageOn(languages: unknown, languageId: string): boolean {
  const switches = (languages ?? {}) as Record<string, unknown>;
  return switches[languageName(languageId)] !== false;
}

/** What is known of the text in the active editor. */
export interface Place {
  scheme: string;
  languageId: string;
  isReadOnly?: boolean;
}

/** What the user has set for it. */
export interface Wishes {
  enable: boolean;
  languages: unknown;
  /** `editor.inlineSuggest.enabled` */
  ghostText: boolean;
}

/** Why nothing can be shown at a place, whatever the server answers; undefined where something can. */
export function whyNotHere(place: Place | undefined, wishes: Wishes): string | undefined {
  if (!wishes.enable) {
    return 'suggestions are switched off';
  }
  if (!place) {
    return 'no text editor is active';
  }
  if (!SCHEMES.includes(place.scheme)) {
    return `this is a view of ${article(place.scheme)}, not a file: it is left alone`;
  }
  if (!isLanguageOn(wishes.languages, place.languageId)) {
    return `${languageName(place.languageId)} is switched off`;
  }
  if (!wishes.ghostText) {
    return 'the editor shows no inline suggestions: editor.inlineSuggest.enabled is off';
  }
  return undefined;
}

function article(scheme: string): string {
  const known: Record<string, string> = {
    git: 'another version',
    output: 'output',
    'vscode-notebook-cell': 'a notebook',
    'vscode-scm': 'a commit message',
  };
  return known[scheme] ?? `“${scheme}”`;
}
