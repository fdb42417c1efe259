/** Rows of the list of events: from the log, and from the live feed before the log is asked again. */
import type { LiveEvent, LiveMessage, LiveOutcome } from '../../api/live.svelte';
import type { DeliveryStatus, EventItem, Millis } from '../../api/schema';

export interface Row {
  uid: string;
  seq: number;
  type: string;
  source: string;
  subject: string | null;
  at: Millis;
  /** Deliveries by status; null when nothing is known yet. */
  tally: Tally | null;
}

export interface Tally {
  succeeded: number;
  dead: number;
  /** Pending, running or retrying. */
  open: number;
  discarded: number;
}

const FIELD: Record<DeliveryStatus, keyof Tally> = {
  succeeded: 'succeeded',
  dead: 'dead',
  discarded: 'discarded',
  pending: 'open',
  running: 'open',
  retrying: 'open',
};

export function tallyOf(deliveries: readonly { status: DeliveryStatus }[]): Tally {
  const tally = { succeeded: 0, dead: 0, open: 0, discarded: 0 };
  for (const { status } of deliveries) tally[FIELD[status]] += 1;
  return tally;
}

export function rowOf(item: EventItem): Row {
  return {
    uid: item.uid,
    seq: item.seq,
    type: item.type,
    source: item.source,
    subject: item.subject ?? null,
    at: item.accepted_at,
    tally: item.deliveries ? tallyOf(item.deliveries) : null,
  };
}

function liveRow(event: LiveEvent, at: Millis): Row {
  return { uid: event.uid, seq: event.seq, type: event.type, source: event.source, subject: event.subject, at, tally: null };
}

/** Scripts' events name their subscription by its id. */
const EMITTED = '/tripline/subscriptions/';

/** Id of the subscription whose script emitted what comes from `source`; null: somebody published it. */
export function emitterOf(source: string): string | null {
  return source.startsWith(EMITTED) ? source.slice(EMITTED.length) : null;
}

/** New rows of a message, the newest first. */
export function freshRows(message: LiveMessage, wanted: (event: LiveEvent) => boolean): Row[] {
  return message.events.filter(wanted).map((event) => liveRow(event, message.at)).reverse();
}

/** Events whose outcomes are kept: more than the list ever holds of the feed. */
const KEPT_MAX = 4_000;

/** Deliveries of live rows as the feed tells of them: by seq and subscription, the latest word wins. */
export class Outcomes {
  #bySeq = new Map<number, Map<string, LiveOutcome['outcome']>>();

  add(outcomes: readonly LiveOutcome[]): void {
    for (const { seq, subscription_id, outcome } of outcomes) {
      const known = this.#bySeq.get(seq) ?? new Map<string, string>();
      known.set(subscription_id, outcome);
      this.#bySeq.set(seq, known);
    }
    this.#forget();
  }

  /** How many events are known of. */
  get size(): number {
    return this.#bySeq.size;
  }

  /** A search for what is rare is never read anew, and would keep the outcomes of all else. */
  #forget(): void {
    for (const seq of this.#bySeq.keys()) {
      if (this.#bySeq.size <= KEPT_MAX) return;
      this.#bySeq.delete(seq);
    }
  }

  tally(seq: number): Tally | null {
    const known = this.#bySeq.get(seq);
    if (!known) return null;
    const tally = { succeeded: 0, dead: 0, open: 0, discarded: 0 };
    for (const outcome of known.values()) {
      tally[outcome === 'succeeded' ? 'succeeded' : outcome === 'dead' ? 'dead' : 'open'] += 1;
    }
    return tally;
  }

  clear(): void {
    this.#bySeq.clear();
  }
}

/** The feed's rows above those of the log; what both have is taken from the log. */
export function merged(live: readonly Row[], stored: readonly Row[], outcomes: Outcomes): Row[] {
  const newest = stored[0]?.seq ?? 0;
  const fresh = live.filter((row) => row.seq > newest).map((row) => ({ ...row, tally: outcomes.tally(row.seq) }));
  return [...fresh, ...stored];
}
