import { expect, test } from 'vitest';

import type { LiveMessage } from '../../api/live.svelte';
import { freshRows, merged, Outcomes, tallyOf, type Row } from './rows';

const at = '2026-01-01T00:00:00.000Z';
const row = (seq: number): Row => ({ uid: `u${seq}`, seq, type: 't', source: '/s', subject: null, at, tally: null });

function message(...seqs: number[]): LiveMessage {
  const events = seqs.map((seq) => ({ uid: `u${seq}`, seq, type: seq % 2 ? 'odd' : 'even', source: '/s', subject: null, bytes: 1 }));
  return { at, seq: 0, accepted: events.length, events, succeeded: 0, failed: 0, dead: 0, outcomes: [], changed: [] };
}

test('new rows come newest first, and only the wanted ones', () => {
  expect(freshRows(message(1, 2, 3), (event) => event.type === 'odd').map((one) => one.seq)).toEqual([3, 1]);
});

test('an event that the log lists already is not listed twice', () => {
  const rows = merged([row(5), row(4), row(3)], [row(4), row(3)], new Outcomes());
  expect(rows.map((one) => one.seq)).toEqual([5, 4, 3]);
});

test('a retry that succeeds is one delivery that succeeded', () => {
  const outcomes = new Outcomes();
  const outcome = { seq: 5, subscription_id: 'a', attempt: 1, duration_us: 1 };
  outcomes.add([{ ...outcome, outcome: 'retrying' }]);
  expect(outcomes.tally(5)).toMatchObject({ open: 1, succeeded: 0 });
  outcomes.add([{ ...outcome, outcome: 'succeeded' }]);
  expect(outcomes.tally(5)).toMatchObject({ open: 0, succeeded: 1 });
});

test('outcomes of a storm do not pile up, and the latest are kept', () => {
  const outcomes = new Outcomes();
  const told = Array.from({ length: 100_000 }, (_, seq) => ({ seq, subscription_id: 'a', attempt: 1, duration_us: 1, outcome: 'succeeded' }));
  outcomes.add(told);
  expect(outcomes.size).toBeLessThan(10_000);
  expect(outcomes.tally(99_999)).toMatchObject({ succeeded: 1 });
});

test('deliveries are counted by what they mean', () => {
  const tally = tallyOf([{ status: 'running' }, { status: 'retrying' }, { status: 'dead' }, { status: 'succeeded' }]);
  expect(tally).toEqual({ open: 2, dead: 1, succeeded: 1, discarded: 0 });
});
