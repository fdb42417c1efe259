/** What the store holds and costs. */
import type { StorageOut, TableOut } from '../../api/schema';

const DAY_MS = 86_400_000;
/** Less history says nothing about a day. */
const LEAST_MS = 3_600_000;
/** Tables that grow with every event. */
const FLOWING = new Set(['events', 'key_blocks', 'key_pages', 'outcome_blocks', 'outcome_late', 'runs']);

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
