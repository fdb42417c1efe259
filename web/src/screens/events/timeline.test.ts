import { expect, test } from 'vitest';

import type { AttemptOut } from '../../api/schema';
import { timeline } from './timeline';

const attempt = (at: string, duration_ms: number): AttemptOut => ({
  id: at,
  attempt: 1,
  replay: 0,
  outcome: 'failed',
  error: null,
  started_at: `2026-01-01T00:00:${at}Z`,
  duration_ms,
});

test('the line begins with the event and ends with the last attempt', () => {
  const { marks, spanMs, next } = timeline('2026-01-01T00:00:00Z', [attempt('00', 500), attempt('01', 1_000)], null);
  expect(spanMs).toBe(2_000);
  expect(marks.map((mark) => [mark.from, mark.width])).toEqual([[0, 0.25], [0.5, 0.5]]);
  expect(next).toBeNull();
});

test('an attempt to come is on the line', () => {
  const { next } = timeline('2026-01-01T00:00:00Z', [attempt('00', 500)], '2026-01-01T00:00:04Z');
  expect(next).toBe(1);
});

test('a delivery without attempts has an empty line', () => {
  expect(timeline('2026-01-01T00:00:00Z', [], null)).toEqual({ marks: [], next: null, spanMs: 1 });
});
