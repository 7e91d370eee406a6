// Silence for some minutes: until when, and what is said about it.
// No editor in here.

/** What the menu offers, in minutes. */
export const SNOOZES = [5, 30, 60] as const;

export function snoozeUntil(now: number, minutes: number): number {
  return now + minutes * 60_000;
}

export function isSnoozed(until: number | undefined, now: number): until is number {
  return until !== undefined && now < until;
}

/** As in `14:05`, by the clock of this machine. */
export function clock(time: number): string {
  const date = new Date(time);
  const two = (n: number) => String(n).padStart(2, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}
