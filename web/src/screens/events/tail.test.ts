import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { live, type LiveMessage } from '../../api/live.svelte';
import { readSearch } from './search';
import { Tail } from './tail.svelte';

let tell: (message: LiveMessage) => void = () => {};

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(live, 'listen').mockImplementation((listener) => ((tell = listener), () => {}));
});
afterEach(() => void vi.useRealTimers());

function message(first: number, count: number): LiveMessage {
  const events = Array.from({ length: count }, (_, at) => ({ seq: first + at, uid: `u${first + at}`, type: 't', source: '/s', subject: null, bytes: 1 }));
  return { at: '2026-01-01T00:00:00Z', seq: first + count, accepted: count, events, succeeded: 0, failed: 0, dead: 0, outcomes: [], changed: [] };
}

/** A tail of everything, and how often its rows were drawn or read anew. */
function tailOf(): { tail: Tail; draws: () => number } {
  const reread = vi.fn(() => tail.reset());
  const tail: Tail = new Tail(() => readSearch(new URLSearchParams()), reread);
  tail.start();
  return { tail, draws: () => tail.version + reread.mock.calls.length };
}

test('a few events show a quarter of a second later', () => {
  const { tail } = tailOf();
  tell(message(1, 2));
  vi.advanceTimersByTime(250);
  expect(tail.rows.map((row) => row.seq)).toEqual([2, 1]);
});

test('two thousand events a second redraw the list once a second', () => {
  const { draws } = tailOf();
  for (let at = 0; at < 100; at += 1) {
    tell(message(at * 200, 200));
    vi.advanceTimersByTime(100);
  }
  expect(draws()).toBeLessThanOrEqual(11);
});

test('frozen, rows wait, and are counted', () => {
  const { tail } = tailOf();
  tail.toggle();
  tell(message(1, 3));
  vi.advanceTimersByTime(5_000);
  expect([tail.rows.length, tail.waiting]).toEqual([0, 3]);
  tail.toggle();
  expect([tail.rows.length, tail.waiting]).toEqual([3, 0]);
});
