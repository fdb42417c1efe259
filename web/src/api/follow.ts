/** Lists of what was stored, read again when the feed tells that there is more. */
import { live, type LiveMessage } from './live.svelte';

/** Between two readings: a list that changes faster is not read, only flickers. */
const EVERY_MS = 2_000;

/**
 * Asks `reread` soon after a message that `concerns` the list, at most every two seconds, until the
 * returned function is called.
 */
export function follow(concerns: (message: LiveMessage) => boolean, reread: () => unknown, feed: Pick<typeof live, 'listen'> = live): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let last = 0;
  const stop = feed.listen((message) => {
    if (timer !== undefined || !concerns(message)) return;
    const wait = Math.max(0, last + EVERY_MS - Date.now());
    timer = setTimeout(() => {
      timer = undefined;
      last = Date.now();
      reread();
    }, wait);
  });
  return () => {
    stop();
    clearTimeout(timer);
  };
}
