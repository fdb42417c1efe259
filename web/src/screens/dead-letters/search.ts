/** What is searched for, as the URL keeps it; a bulk operation takes the same. */
import type { Query } from '../../api/client';
import type { BulkIn, ErrorKind, LetterStatus } from '../../api/schema';
import type { QueryValues } from '../../router/router.svelte';
import { spanOf, SPANS, type Span } from '../events/search';

export type LetterQuery = Query<'/api/v1/dead-letters'>;

export const KINDS: ErrorKind[] = [
  'exception',
  'permanent',
  'timeout',
  'out_of_memory',
  'stack_overflow',
  'compile',
  'emit_rejected',
  'hop_limit',
  'host_crash',
  'expired',
];

export const STATUSES: { value: LetterStatus; label: string }[] = [
  { value: 'dead', label: 'Dead' },
  { value: 'replaying', label: 'Replaying' },
  { value: 'replayed', label: 'Replayed' },
  { value: 'discarded', label: 'Discarded' },
];

export interface Search {
  status: LetterStatus;
  text: string;
  event_type: string;
  error_kind: ErrorKind | '';
  fingerprint: string;
  subscription_id: string;
  script_id: string;
  event_id: string;
  /** Died in this span back from now, or `custom`: then `from` and `until` count. */
  last: Span | 'custom' | '';
  /** RFC 3339. */
  from: string;
  until: string;
}

/** A search whose span is a time: list, numbers and bulk operations mean the same letters by it. */
export type Terms = Omit<Search, 'last'> & { last?: never };

export function readSearch(query: URLSearchParams): Search {
  const text = (name: string): string => query.get(name) ?? '';
  const last = spanOf(text('last')) || (text('from') || text('until') || text('last') === 'custom' ? 'custom' : '');
  return {
    status: STATUSES.find((one) => one.value === text('status'))?.value ?? (query.has('event_id') ? ('' as LetterStatus) : 'dead'),
    text: text('text'),
    event_type: text('event_type'),
    error_kind: KINDS.find((one) => one === text('error_kind')) ?? '',
    fingerprint: text('fingerprint'),
    subscription_id: text('subscription_id'),
    script_id: text('script_id'),
    event_id: text('event_id'),
    last,
    from: last === 'custom' ? text('from') : '',
    until: last === 'custom' ? text('until') : '',
  };
}

/** A span that ends now begins at a time, and goes on from there. */
export function since({ last, ...search }: Search, now: number): Terms {
  return last === '' || last === 'custom' ? search : { ...search, from: new Date(now - SPANS[last]).toISOString() };
}

/** Only what is set. */
export function asQuery(terms: Terms): LetterQuery {
  return set(terms) as LetterQuery;
}

/** As the URL has it, for links that lead back here. */
export function asLink(search: Search | Terms): QueryValues {
  return { ...set(search), status: search.status === 'dead' ? null : search.status };
}

export function asBulk(terms: Terms, more: Pick<BulkIn, 'rate' | 'script_version'> = {}): BulkIn {
  const status = terms.status === 'discarded' ? 'discarded' : 'dead';
  return { ...(asQuery({ ...terms, status }) as BulkIn), ...more };
}

function set(values: object): object {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ''));
}
