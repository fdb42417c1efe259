/** What is searched for, as the URL keeps it; a bulk operation takes the same. */
import type { Query } from '../../api/client';
import type { BulkIn, ErrorKind, LetterStatus } from '../../api/schema';

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
  event_id: string;
}

export function readSearch(query: URLSearchParams): Search {
  const text = (name: string): string => query.get(name) ?? '';
  return {
    status: STATUSES.find((one) => one.value === text('status'))?.value ?? (query.has('event_id') ? ('' as LetterStatus) : 'dead'),
    text: text('text'),
    event_type: text('event_type'),
    error_kind: KINDS.find((one) => one === text('error_kind')) ?? '',
    fingerprint: text('fingerprint'),
    subscription_id: text('subscription_id'),
    event_id: text('event_id'),
  };
}

/** Only what is set. */
export function asQuery(search: Search): LetterQuery {
  return Object.fromEntries(Object.entries(search).filter(([, value]) => value !== '')) as LetterQuery;
}

export function asBulk(search: Search, more: Pick<BulkIn, 'rate' | 'script_version'> = {}): BulkIn {
  const status = search.status === 'discarded' ? 'discarded' : 'dead';
  return { ...(asQuery({ ...search, status }) as BulkIn), ...more };
}
