/** Steps of `/stats/series` as lines of charts. */
import type { Point } from '../../api/schema';

export interface Charts {
  /** Ends of the steps, in seconds since 1970. */
  times: number[];
  accepted: number[];
  succeeded: number[];
  failed: number[];
  dead: number[];
  backlog: number[];
  p50: (number | null)[];
  p99: (number | null)[];
}

/** Counts become rates per second; latency stays as it is, with gaps where nothing settled. */
export function charts(points: readonly Point[], stepMs: number): Charts {
  const perSecond = (count: number): number => (count * 1_000) / stepMs;
  return {
    times: points.map((point) => Date.parse(point.at) / 1_000),
    accepted: points.map((point) => perSecond(point.events)),
    succeeded: points.map((point) => perSecond(point.succeeded)),
    failed: points.map((point) => perSecond(point.failed)),
    dead: points.map((point) => point.dead),
    backlog: points.map((point) => point.backlog),
    p50: points.map((point) => point.p50_ms),
    p99: points.map((point) => point.p99_ms),
  };
}
