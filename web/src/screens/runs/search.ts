/** What runs are searched for, as the URL keeps it. */
import type { Query } from '../../api/client';
import { spanOf, SPANS, type Span } from '../events/search';

type RunQuery = NonNullable<Query<'/api/v1/runs'>>;

const NAMES = ['outcome', 'error_kind', 'script_id', 'subscription_id', 'event_id'] as const;

export interface Search extends Partial<Record<(typeof NAMES)[number], string>> {
  /** How far back, or as far as runs are kept. */
  last: Span | '';
}

export function readSearch(query: URLSearchParams): Search {
  const set = NAMES.filter((name) => query.get(name)).map((name) => [name, query.get(name)]);
  return { ...Object.fromEntries(set), last: spanOf(query.get('last') ?? '') };
}

/** What the API is asked. */
export function asQuery({ last, ...names }: Search, now: number): RunQuery {
  return { ...names, ...(last ? { from: new Date(now - SPANS[last]).toISOString() } : {}) } as RunQuery;
}
