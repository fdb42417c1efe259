/** What is searched for, as the URL keeps it. */
import type { Query } from '../../api/client';
import { matchesType } from './pattern';

export type EventQuery = Query<'/api/v1/events'>;

/** Named spans back from now. */
export const SPANS = { '15m': 15 * 60_000, '1h': 3_600_000, '24h': 86_400_000, '7d': 7 * 86_400_000 } as const;

export type Span = keyof typeof SPANS;

/** What the URL calls a span, if it is one. */
export function spanOf(text: string): Span | '' {
  return Object.hasOwn(SPANS, text) ? (text as Span) : '';
}

/** To choose from. */
export const LAST: { value: Span | ''; label: string }[] = [
  { value: '', label: 'Any time' },
  { value: '15m', label: 'Last 15 minutes' },
  { value: '1h', label: 'Last hour' },
  { value: '24h', label: 'Last 24 hours' },
  { value: '7d', label: 'Last 7 days' },
];

export interface Search {
  type: string;
  subject: string;
  source: string;
  filter: string;
  /** A named span, or `custom`: then `from` and `until` count. */
  last: Span | 'custom' | '';
  /** RFC 3339. */
  from: string;
  until: string;
  /** Only events that no subscription took. */
  unmatched: boolean;
}

export function readSearch(query: URLSearchParams): Search {
  const text = (name: string): string => query.get(name) ?? '';
  const last = text('last');
  const isCustom = Boolean(text('from') || text('until')) || last === 'custom';
  return {
    type: text('type'),
    subject: text('subject'),
    source: text('source'),
    filter: text('filter'),
    last: spanOf(last) || (isCustom ? 'custom' : ''),
    from: text('from'),
    until: text('until'),
    unmatched: query.has('unmatched'),
  };
}

/** What the API is asked. */
export function asQuery(search: Search, now: number): EventQuery {
  const span = search.last === '' || search.last === 'custom' ? null : SPANS[search.last];
  return {
    type: search.type || undefined,
    subject: search.subject || undefined,
    source: search.source || undefined,
    filter: search.filter || undefined,
    from: span === null ? search.from || undefined : new Date(now - span).toISOString(),
    until: search.until || undefined,
    unmatched: search.unmatched || undefined,
    data: false,
  };
}

/** Whether the live feed alone can tell which new events belong here. */
export function canFollow(search: Search): boolean {
  return !search.filter && !search.unmatched && !search.until;
}

export function takes(search: Search, event: { type: string; subject: string | null; source: string }): boolean {
  return (
    (!search.type || matchesType(search.type, event.type)) &&
    (!search.subject || search.subject === event.subject) &&
    (!search.source || search.source === event.source)
  );
}
