import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { lately, Live } from './live.svelte';

/** A line that the test holds. */
class Line extends EventTarget {
  closed = false;
  close(): void {
    this.closed = true;
  }
  say(type: string, data: unknown = {}): void {
    this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data) }));
  }
}

let lines: Line[];
let live: Live;
let stop: () => void;

beforeEach(() => {
  vi.useFakeTimers();
  lines = [];
  live = new Live(() => {
    const line = new Line();
    lines.push(line);
    return line as unknown as EventSource;
  });
  stop = live.start();
});

afterEach(() => {
  stop();
  vi.useRealTimers();
});

const last = (): Line => lines.at(-1) as Line;

test('a line is live when the server has said hello', () => {
  expect(live.state).toBe('connecting');
  last().say('hello');
  expect(live.state).toBe('live');
});

test('a broken line is tried again, each time later, and tells when it is back', () => {
  const back = vi.fn();
  live.whenBack(back);
  last().say('hello');
  expect(back).not.toHaveBeenCalled();
  last().say('error');
  expect(live.state).toBe('retrying');
  vi.advanceTimersByTime(500);
  expect(lines).toHaveLength(2);
  last().say('error');
  vi.advanceTimersByTime(999);
  expect(lines).toHaveLength(2);
  vi.advanceTimersByTime(1);
  last().say('hello');
  expect(live.state).toBe('live');
  expect(back).toHaveBeenCalledOnce();
});

test('only seconds that were seen whole are drawn', () => {
  expect(live.history.every((second) => second === null)).toBe(true);
  vi.advanceTimersByTime(400);
  last().say('hello');
  last().say('commit', { accepted: 2 });
  vi.advanceTimersByTime(1_000);
  last().say('commit', { accepted: 5 });
  vi.advanceTimersByTime(1_000);
  last().dispatchEvent(new Event('error'));
  vi.advanceTimersByTime(1_000);
  expect(live.history.slice(-4)).toEqual([null, null, 5, null]);
});

test('what came while nobody counted is of no known second', () => {
  last().say('hello');
  vi.advanceTimersByTime(1_000);
  last().say('commit', { accepted: 3 });
  vi.advanceTimersByTime(1_000);
  last().say('commit', { accepted: 9 });
  // The machine slept: one late tick for five seconds.
  vi.setSystemTime(Date.now() + 4_000);
  vi.advanceTimersByTime(1_000);
  expect(live.history.slice(-6)).toEqual([3, null, null, null, null, null]);
  last().say('missed', { messages: 2 });
  vi.advanceTimersByTime(1_000);
  expect(live.history.at(-1)).toBeNull();
  vi.advanceTimersByTime(1_000);
  expect(live.history.at(-1)).toBe(0);
  expect(live.history).toHaveLength(60);
});

test('the rate is told over the last ten seconds that were seen', () => {
  expect(lately([])).toBeNull();
  expect(lately([7, null, null, null, null, null, null, null, null, null, null])).toBeNull();
  expect(lately([100, null, null, null, null, null, null, null, null, 2, 4])).toBe(3);
});

test('messages reach those who listen, and what was missed is counted', () => {
  const heard = vi.fn();
  last().say('hello');
  vi.advanceTimersByTime(1_000);
  const off = live.listen(heard);
  last().say('commit', { accepted: 3 });
  last().say('missed', { messages: 4 });
  off();
  last().say('commit', { accepted: 1 });
  expect(heard).toHaveBeenCalledOnce();
  expect(live.missed).toBe(4);
});

test('a hidden tab hangs up after a while, and reads anew when it is seen', () => {
  const back = vi.fn();
  live.whenBack(back);
  last().say('hello');
  const visibility = vi.spyOn(document, 'visibilityState', 'get');
  visibility.mockReturnValue('hidden');
  document.dispatchEvent(new Event('visibilitychange'));
  vi.advanceTimersByTime(30_000);
  expect(last().closed).toBe(true);
  expect(live.state).toBe('idle');
  visibility.mockReturnValue('visible');
  document.dispatchEvent(new Event('visibilitychange'));
  last().say('hello');
  expect(back).toHaveBeenCalledOnce();
});
