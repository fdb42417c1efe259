/** What runs are searched for, as the URL keeps it. */
import type { Query } from '../../api/client';
import { SPANS, type Span } from '../events/search';

type RunQuery = NonNullable<Query<'/api/v1/runs'>>;

const NAMES = ['outcome', 'error_kind', 'script_id', 'subscription_id', 'event_id'] as const;

export const LAST: { value: Span | ''; label: string }[] = [
  { value: '', label: 'Any time' },
  { value: '15m', label: 'Last 15 minutes' },
  { value: '1h', label: 'Last hour' },
  { value: '24h', label: 'Last 24 hours' },
  { value: '7d', label: 'Last 7 days' },
];

export interface Search extends Partial<Record<(typeof NAMES)[number], string>> {
  /** How far back, or as far as runs are kept. */
  last: Span | '';
}

export function readSearch(query: URLSearchParams): Search {
  const last = query.get('last') ?? '';
  const set = NAMES.filter((name) => query.get(name)).map((name) => [name, query.get(name)]);
  return { ...Object.fromEntries(set), last: last in SPANS ? (last as Span) : '' };
}

/** What the API is asked. */
export function asQuery({ last, ...names }: Search, now: number): RunQuery {
  return { ...names, ...(last ? { from: new Date(now - SPANS[last]).toISOString() } : {}) } as RunQuery;
}
