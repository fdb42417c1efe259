/** A delivery's attempts as marks on a line: pure arithmetic behind `Timeline.svelte`. */
import type { AttemptOut } from '../../api/schema';

export interface Mark {
  attempt: AttemptOut;
  /** Shares of the line, 0 to 1. */
  from: number;
  width: number;
}

export interface Timeline {
  marks: Mark[];
  /** Where the next attempt will be, if one waits. */
  next: number | null;
  /** What the whole line stands for. */
  spanMs: number;
}

/** From when the event was accepted to the last thing that happened, or will. */
export function timeline(acceptedAt: string, attempts: readonly AttemptOut[], nextAt: string | null): Timeline {
  const start = Date.parse(acceptedAt);
  const endOf = (attempt: AttemptOut): number => Date.parse(attempt.started_at) + attempt.duration_ms;
  const ends = [...attempts.map(endOf), ...(nextAt ? [Date.parse(nextAt)] : [])];
  const spanMs = Math.max(1, ...ends.map((end) => end - start));
  const share = (ms: number): number => Math.min(Math.max(ms / spanMs, 0), 1);
  return {
    marks: attempts.map((attempt) => ({
      attempt,
      from: share(Date.parse(attempt.started_at) - start),
      width: share(attempt.duration_ms),
    })),
    next: nextAt ? share(Date.parse(nextAt) - start) : null,
    spanMs,
  };
}
