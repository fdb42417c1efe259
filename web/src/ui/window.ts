/** Which rows of a long list are drawn: pure arithmetic behind `Table`. */

export interface Span {
  /** First row drawn, and the one after the last. */
  from: number;
  to: number;
}

const OVERSCAN = 8;

/** Rows in sight of a box of `height` scrolled to `top`, with a few more on both sides. */
export function span(total: number, rowHeight: number, top: number, height: number): Span {
  const first = Math.floor(top / rowHeight) - OVERSCAN;
  const last = Math.ceil((top + height) / rowHeight) + OVERSCAN;
  return { from: Math.min(Math.max(first, 0), total), to: Math.min(Math.max(last, 0), total) };
}

/** Where to scroll, at least, so that the row at `at` is in sight of a box of `height` scrolled to `top`. */
export function into(at: number, rowHeight: number, top: number, height: number): number {
  return Math.min(Math.max(top, (at + 1) * rowHeight - height), at * rowHeight);
}

/**
 * What is shown while the hand rests on the rows: those that were there, and what was read below them.
 *
 * `before` itself if nothing came below, or its last row is gone.
 */
export function lengthened<T>(before: T[], after: T[], key: (row: T) => string): T[] {
  const end = before.at(-1);
  if (end === undefined) return after;
  const last = after.findLastIndex((row) => key(row) === key(end));
  if (last < 0 || last === after.length - 1) return before;
  // One that changed its place is where it was.
  const there = new Set(before.map(key));
  return [...before, ...after.slice(last + 1).filter((row) => !there.has(key(row)))];
}

/** The same, with what is in the rows as it is now; one that is gone stays as it was. */
export function inPlace<T>(before: T[], after: T[], key: (row: T) => string): T[] {
  const now = new Map(after.map((row) => [key(row), row]));
  return lengthened(before.map((row) => now.get(key(row)) ?? row), after, key);
}

/**
 * Where to scroll so that the row at the top stays where it is when rows come in above it.
 *
 * `before` and `after` are the keys of the rows; 0 when the top row is gone or nothing came.
 */
export function shift(before: readonly string[], after: readonly string[], top: number, rowHeight: number): number {
  const at = Math.floor(top / rowHeight);
  const anchor = before[at];
  if (anchor === undefined) return 0;
  const now = after.indexOf(anchor);
  return now < 0 ? 0 : (now - at) * rowHeight;
}
