/** One clock for all relative times, ticking only while somebody reads it. */
import { createSubscriber } from 'svelte/reactivity';

const TICK_MS = 1_000;

class Clock {
  #subscribe = createSubscriber((update) => {
    const timer = setInterval(update, TICK_MS);
    return () => clearInterval(timer);
  });

  get now(): number {
    this.#subscribe();
    return Date.now();
  }
}

export const clock = new Clock();
