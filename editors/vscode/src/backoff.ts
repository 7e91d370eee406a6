// When a server that stopped by itself is started again, and when that is given up.
// No editor in here.

/** Pauses before the first, second, … start after a stop. */
const PAUSES_MS = [500, 1000, 2000, 4000];
/** Stops that are further back do not count any more. */
const WINDOW_MS = 180_000;

/** So many stops within the window are too many. */
export const MOST_STOPS = PAUSES_MS.length + 1;

/** The pause before the next start; undefined means: do not. `stops` are the times of all stops, the last one included. */
export function pauseAfter(stops: readonly number[], now: number): number | undefined {
  return PAUSES_MS[recent(stops, now).length - 1];
}

/** The stops that still count. */
export function recent(stops: readonly number[], now: number): number[] {
  return stops.filter((stop) => now - stop < WINDOW_MS);
}
