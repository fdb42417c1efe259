/**
 * What the server says while it happens (`GET /api/v1/live`), and how good the line is.
 *
 * The browser's own reconnect gives up on an answer such as 503, so this one reconnects itself, with a
 * delay that grows. A hidden tab hangs up after a while: browsers allow six connections to a server.
 */
import { urlOf } from './client';
import type { EventId, Millis, SubscriptionId } from './schema';

export interface LiveEvent {
  seq: number;
  uid: EventId;
  type: string;
  source: string;
  subject: string | null;
  bytes: number;
}

export interface LiveOutcome {
  subscription_id: SubscriptionId;
  seq: number;
  outcome: string;
  attempt: number;
  duration_us: number;
}

/** What was committed since the last message; lists are cut at a hundred, counts are true. */
export interface LiveMessage {
  at: Millis;
  seq: number;
  accepted: number;
  events: LiveEvent[];
  succeeded: number;
  failed: number;
  dead: number;
  outcomes: LiveOutcome[];
  changed: SubscriptionId[];
}

/** `idle`: nobody watches, or the tab is hidden. */
export type LiveState = 'idle' | 'connecting' | 'live' | 'retrying';

const RETRY_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
const HIDDEN_MS = 30_000;
/** Seconds of history behind the line in the shell. */
const HISTORY = 60;
/** Seconds that a rate is told over, here and by the server's `rates` (`/stats`): two of its steps. */
export const LATELY_S = 10;

/** Events per second over the last seconds that were seen; null where none of them was. */
export function lately(history: readonly (number | null)[]): number | null {
  const seen = history.slice(-LATELY_S).filter((second) => second !== null);
  return seen.length === 0 ? null : seen.reduce((sum, second) => sum + second, 0) / seen.length;
}

export class Live {
  state = $state<LiveState>('idle');
  /** When the next try comes, in milliseconds since 1970. */
  retryAt = $state<number | null>(null);
  /** Messages that the server dropped because this screen was too slow. */
  missed = $state(0);
  /** Events accepted in each of the last seconds, oldest first; null where nobody looked. */
  history = $state.raw<(number | null)[]>(Array<null>(HISTORY).fill(null));

  #source: EventSource | null = null;
  #listeners = new Set<(message: LiveMessage) => void>();
  #reconnected = new Set<() => void>();
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #hide: ReturnType<typeof setTimeout> | undefined;
  #second = 0;
  /** The line has been there since the last tick, and brought everything. */
  #whole = false;
  #tickedAt = 0;

  constructor(private readonly open: () => EventSource = () => new EventSource(urlOf('/api/v1/live'))) {}

  /** Connects, and goes on until the returned function is called. */
  start(): () => void {
    this.#tickedAt = Date.now();
    const tick = setInterval(() => this.#tick(Date.now()), 1_000);
    const visibility = (): void => this.#visible(document.visibilityState === 'visible');
    document.addEventListener('visibilitychange', visibility);
    this.#connect();
    return () => {
      clearInterval(tick);
      document.removeEventListener('visibilitychange', visibility);
      this.#hangUp();
      this.state = 'idle';
    };
  }

  /** Hears every message until the returned function is called. */
  listen(listener: (message: LiveMessage) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Hears when the line is back after a break: what happened meanwhile must be read anew. */
  whenBack(listener: () => void): () => void {
    this.#reconnected.add(listener);
    return () => this.#reconnected.delete(listener);
  }

  retryNow(): void {
    if (this.state !== 'retrying') return;
    this.#connect();
  }

  #connect(): void {
    this.#hangUp();
    this.state = 'connecting';
    const source = this.open();
    this.#source = source;
    source.addEventListener('hello', () => {
      const wasBroken = this.#failures > 0;
      this.#failures = 0;
      this.state = 'live';
      if (wasBroken) for (const listener of this.#reconnected) listener();
    });
    source.addEventListener('commit', (event: MessageEvent<string>) => {
      const message = JSON.parse(event.data) as LiveMessage;
      this.#second += message.accepted;
      for (const listener of this.#listeners) listener(message);
    });
    source.addEventListener('missed', (event: MessageEvent<string>) => {
      this.missed += (JSON.parse(event.data) as { messages: number }).messages;
      this.#whole = false;
      // What they told of is read anew, as after a break.
      for (const listener of this.#reconnected) listener();
    });
    source.addEventListener('error', () => this.#broken());
  }

  #broken(): void {
    this.#hangUp();
    const delay = RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)] ?? 15_000;
    this.#failures += 1;
    this.state = 'retrying';
    this.retryAt = Date.now() + delay;
    this.#timer = setTimeout(() => this.#connect(), delay);
  }

  #hangUp(): void {
    clearTimeout(this.#timer);
    this.retryAt = null;
    this.#source?.close();
    this.#source = null;
    this.#whole = false;
  }

  #visible(visible: boolean): void {
    clearTimeout(this.#hide);
    if (visible && this.state === 'idle') {
      // What happened while nobody looked counts as missed.
      this.#failures = Math.max(this.#failures, 1);
      this.#connect();
    }
    if (!visible) {
      this.#hide = setTimeout(() => {
        this.#hangUp();
        this.state = 'idle';
      }, HIDDEN_MS);
    }
  }

  #tick(now: number): void {
    // A browser lets a hidden tab wait, and a laptop that slept all of them: what came is of no known second.
    const seconds = Math.min(HISTORY, Math.max(1, Math.round((now - this.#tickedAt) / 1_000)));
    const seen = Array<number | null>(seconds).fill(seconds === 1 && this.#whole ? this.#second : null);
    this.history = [...this.history.slice(seconds), ...seen];
    this.#tickedAt = now;
    this.#second = 0;
    this.#whole = this.state === 'live';
  }
}

export const live = new Live();
