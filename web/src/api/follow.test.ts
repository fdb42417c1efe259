import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { follow } from './follow';
import type { LiveMessage } from './live.svelte';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('what concerns a list has it read again, and a storm of it every two seconds', () => {
  let tell: (message: LiveMessage) => void = () => {};
  const reread = vi.fn();
  const stop = follow((message) => message.dead > 0, reread, { listen: (listener) => ((tell = listener), () => (tell = () => {})) });
  tell({ dead: 0 } as LiveMessage);
  vi.advanceTimersByTime(10_000);
  expect(reread).toHaveBeenCalledTimes(0);
  tell({ dead: 1 } as LiveMessage);
  vi.advanceTimersByTime(0);
  expect(reread).toHaveBeenCalledTimes(1);
  for (let at = 0; at < 40; at += 1) {
    tell({ dead: 1 } as LiveMessage);
    vi.advanceTimersByTime(100);
  }
  expect(reread).toHaveBeenCalledTimes(3);
  stop();
  tell({ dead: 1 } as LiveMessage);
  vi.advanceTimersByTime(10_000);
  expect(reread).toHaveBeenCalledTimes(3);
});
