/**
 * The live end of the list of events: rows that the feed told of, on top of those read from the log.
 *
 * Frozen, or while the pointer rests on the rows, new ones wait: nothing moves under the hand.
 */
import { live, type LiveMessage } from '../../api/live.svelte';
import { freshRows, Outcomes, type Row } from './rows';
import { canFollow, takes, type Search } from './search';

/** Rows that the feed may add before the log is read anew. */
const ROWS_MAX = 2_000;
/** Between two redraws: more often is not seen, only paid for. */
const REDRAW_MS = 250;
/** When every row is another one each time: nobody reads that faster. */
const STORM_MS = 1_000;
/** So many new rows fill the screen. */
const STORM_ROWS = 30;

export class Tail {
  /** Newest first. */
  rows = $state.raw<Row[]>([]);
  readonly outcomes = new Outcomes();
  /** Grows with every redraw, for what reads `outcomes`. */
  version = $state(0);
  frozen = $state(false);
  hovered = $state(false);
  /** Events that wait to be shown. */
  waiting = $state(0);
  /** Events that came too fast to be listed one by one. */
  unlisted = $state(0);

  #fresh: Row[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly search: () => Search,
    /** Reads the newest page of the log again. */
    private readonly reread: () => void,
  ) {}

  /** Follows the feed until the returned function is called. */
  start(): () => void {
    const stop = live.listen((message) => this.#hear(message));
    return () => {
      stop();
      clearTimeout(this.#timer);
    };
  }

  get held(): boolean {
    return this.frozen || this.hovered;
  }

  /** Forgets what the feed told: the log was asked anew. */
  reset(): void {
    this.#fresh = [];
    this.rows = [];
    this.waiting = 0;
    this.unlisted = 0;
    this.outcomes.clear();
  }

  release(): void {
    if (!this.held) this.#redraw();
  }

  toggle(): void {
    this.frozen = !this.frozen;
    if (!this.frozen) this.#redraw();
  }

  #hear(message: LiveMessage): void {
    this.outcomes.add(message.outcomes);
    const search = this.search();
    if (canFollow(search)) {
      const rows = freshRows(message, (event) => takes(search, event));
      this.#fresh.unshift(...rows);
      this.unlisted += message.accepted - message.events.length;
      this.waiting += rows.length;
    } else {
      this.waiting += message.accepted;
    }
    const isStorm = this.#fresh.length >= STORM_ROWS;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      if (!this.held) this.#redraw();
    }, isStorm ? STORM_MS : REDRAW_MS);
  }

  #redraw(): void {
    const search = this.search();
    const tooMany = this.rows.length + this.#fresh.length > ROWS_MAX;
    if (this.waiting > 0 && (tooMany || !canFollow(search))) {
      this.#fresh = [];
      this.waiting = 0;
      this.reread();
      return;
    }
    if (this.#fresh.length > 0) this.rows = [...this.#fresh, ...this.rows];
    this.#fresh = [];
    this.waiting = 0;
    this.version += 1;
  }
}
