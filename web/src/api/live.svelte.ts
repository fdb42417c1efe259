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
  /** The line has been there since the last tick. */
  #whole = false;

  constructor(private readonly open: () => EventSource = () => new EventSource(urlOf('/api/v1/live'))) {}

  /** Connects, and goes on until the returned function is called. */
  start(): () => void {
    const tick = setInterval(() => this.#tick(), 1_000);
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

  #tick(): void {
    this.history = [...this.history.slice(1), this.#whole ? this.#second : null];
    this.#second = 0;
    this.#whole = this.state === 'live';
  }
}

export const live = new Live();
