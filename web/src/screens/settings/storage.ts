/** What the store holds and costs. */
import type { StorageOut, TableOut } from '../../api/schema';

const DAY_MS = 86_400_000;
/** Less history says nothing about a day. */
const LEAST_MS = 10 * 60_000;
/** Tables that grow with every event, and are kept for as long. */
const FLOWING = new Set(['events', 'key_blocks', 'key_pages', 'outcome_blocks', 'outcome_late', 'recordings', 'runs']);

/** The largest first; those of which nothing is known last. */
export function bySize(tables: readonly TableOut[]): TableOut[] {
  return [...tables].sort((a, b) => (b.bytes ?? -1) - (a.bytes ?? -1) || b.rows - a.rows);
}

/** Bytes that a day of events, outcomes and runs takes at the pace so far; null while it is too early to say. */
export function perDay(storage: StorageOut, now: number): number | null {
  if (storage.oldest_at === null) return null;
  const age = now - Date.parse(storage.oldest_at);
  if (age < LEAST_MS) return null;
  const flowing = storage.tables.filter((table) => FLOWING.has(table.name));
  if (flowing.some((table) => table.bytes === null)) return null;
  const total = flowing.reduce((sum, table) => sum + (table.bytes ?? 0), 0);
  return (total * DAY_MS) / age;
}

/** A span of the configuration such as `7d` or `36h` in days; null for `never` and what is none. */
export function days(span: unknown): number | null {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(String(span)) ?? [];
  const size = { ms: 1 / DAY_MS, s: 1_000 / DAY_MS, m: 60_000 / DAY_MS, h: 1 / 24, d: 1 }[unit];
  return number === undefined || size === undefined ? null : Number(number) * size;
}
