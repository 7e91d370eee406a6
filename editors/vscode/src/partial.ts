// How much of a suggestion stands in the text after a change.
// No editor in here.

/**
 * The length of the part of `suggested` that is there after `inserted` was put behind `before`, which is the text from
 * the suggestion's start to the change; undefined if that was no acceptance.
 *
 * One character is a key, and white space alone is what the Enter key brings: neither is counted.
 */
export function acceptedLength(suggested: string, before: string, inserted: string): number | undefined {
  if (inserted.trim().length < 2) {
    return undefined;
  }
  const now = before + inserted;
  return suggested.startsWith(now) ? now.length : undefined;
}
