/** Steps of `/stats/series` as lines of charts. */
import type { Point } from '../../api/schema';

export interface Charts {
  /** Ends of the steps, in seconds since 1970. */
  times: number[];
  accepted: (number | null)[];
  succeeded: (number | null)[];
  failed: (number | null)[];
  died: (number | null)[];
  backlog: (number | null)[];
  deadLetters: (number | null)[];
  p50: (number | null)[];
  p99: (number | null)[];
}

type Lines = Omit<Charts, 'times'>;

/** Counts become rates per second; latency stays as it is, with gaps where nothing settled. */
const READ: { [line in keyof Lines]: (point: Point) => number | null } = {
  accepted: (point) => perSecond(point.events, point),
  succeeded: (point) => perSecond(point.succeeded, point),
  failed: (point) => perSecond(point.failed, point),
  died: (point) => perSecond(point.dead, point),
  backlog: (point) => point.backlog,
  deadLetters: (point) => point.dead_letters,
  p50: (point) => point.p50_ms,
  p99: (point) => point.p99_ms,
};

function perSecond(count: number, { span_ms }: Point): number {
  return (count * 1_000) / Math.max(span_ms, 1);
}

/** While the server was down nothing is known: the lines break there. */
function withGaps(points: readonly Point[], stepMs: number): (Point | number)[] {
  return points.flatMap((point, at) => {
    const before = points[at - 1];
    const began = Date.parse(point.at) - point.span_ms;
    const isGap = before !== undefined && began - Date.parse(before.at) > stepMs;
    return isGap ? [began, point] : [point];
  });
}

export function charts(points: readonly Point[], stepMs: number): Charts {
  const marks = withGaps(points, stepMs);
  const line = (name: keyof Lines): (number | null)[] => marks.map((mark) => (typeof mark === 'number' ? null : READ[name](mark)));
  const lines = Object.fromEntries((Object.keys(READ) as (keyof Lines)[]).map((name) => [name, line(name)])) as unknown as Lines;
  return { times: marks.map((mark) => (typeof mark === 'number' ? mark : Date.parse(mark.at)) / 1_000), ...lines };
}

/** What can be looked back on, in minutes. */
export const RANGES = [
  { value: '10', label: 'Last 10 minutes' },
  { value: '60', label: 'Last hour' },
  { value: '360', label: 'Last 6 hours' },
  { value: '1440', label: 'Last 24 hours' },
  { value: '10080', label: 'Last 7 days' },
] as const;

/** The range that a URL names, in minutes; ten if it names none. */
export function rangeOf(text: string | null): number {
  return Number(RANGES.find((one) => one.value === text)?.value ?? RANGES[0].value);
}

/** How often a range is read again: what a step of half an hour shows does not change every five seconds. */
export function refreshMs(minutes: number): number {
  return minutes <= 60 ? 5_000 : 15_000;
}
