import { expect, test } from 'vitest';

import type { StorageOut, TableOut } from '../../api/schema';
import { bySize, days, perDay } from './storage';

const HOUR = 3_600_000;
const table = (name: string, bytes: number | null): TableOut => ({ name, rows: 1, bytes });
const storage = (oldest_at: string | null, ...tables: TableOut[]): StorageOut => ({
  kind: 'sqlite',
  synchronous: 'full',
  bytes: 0,
  wal_bytes: null,
  free_bytes: null,
  tables,
  oldest_seq: null,
  newest_seq: null,
  oldest_at,
  retention: {},
  kept_bytes: { events: 0, runs: 0, dead_letters: 0, audit: 0 },
});
const start = '2026-01-01T00:00:00.000Z';

test('a day costs what flows in a day', () => {
  const held = storage(start, table('events', 100), table('runs', 20), table('scripts', 1_000_000), table('dead_letters', 900_000));
  expect(perDay(held, Date.parse(start) + 2 * HOUR)).toBe(120 * 12);
});

test('too little history, or an unknown size, is no forecast', () => {
  expect(perDay(storage(start, table('events', 100)), Date.parse(start) + HOUR / 7)).toBeNull();
  expect(perDay(storage(null), Date.now())).toBeNull();
  expect(perDay(storage(start, table('events', null)), Date.parse(start) + 5 * HOUR)).toBeNull();
});

test('how long events are kept, in days', () => {
  expect(['7d', '36h', '90m', 'never', undefined].map(days)).toEqual([7, 1.5, 0.0625, null, null]);
});

test('the largest table comes first, the unknown last', () => {
  expect(bySize([table('a', 1), table('b', null), table('c', 9)]).map((one) => one.name)).toEqual(['c', 'a', 'b']);
});
