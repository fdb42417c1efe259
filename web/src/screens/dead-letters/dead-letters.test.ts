import { expect, test } from 'vitest';

import { frame, placeOf } from './frame';
import { asBulk, asLink, asQuery, readSearch, since } from './search';

const NOW = Date.parse('2026-01-02T00:00:00Z');
const read = (query: string) => readSearch(new URLSearchParams(query));
const terms = (query: string) => since(read(query), NOW);

test('letters that are dead are asked for, unless the URL says otherwise', () => {
  expect(asQuery(terms(''))).toEqual({ status: 'dead' });
  expect(asQuery(terms('status=discarded&text=smtp'))).toEqual({ status: 'discarded', text: 'smtp' });
  expect(asQuery(terms('event_id=u'))).toEqual({ event_id: 'u' });
  expect(asQuery(terms('error_kind=nonsense'))).toEqual({ status: 'dead' });
  expect(asQuery(terms('subscription_id=s&script_id=c'))).toEqual({ status: 'dead', subscription_id: 's', script_id: 'c' });
});

test('a span that ends now is asked for by the time that it began', () => {
  expect(asQuery(terms('last=1h'))).toEqual({ status: 'dead', from: '2026-01-01T23:00:00.000Z' });
  expect(asQuery(terms('last=1h&until=x'))).toEqual({ status: 'dead', from: '2026-01-01T23:00:00.000Z' });
  expect(asQuery(terms('last=toString'))).toEqual({ status: 'dead' });
  expect(asQuery(terms('from=a&until=b'))).toEqual({ status: 'dead', from: 'a', until: 'b' });
});

test('a bulk operation takes what is shown, and only the dead', () => {
  expect(asBulk(terms('fingerprint=f'), { rate: 5 })).toEqual({ status: 'dead', fingerprint: 'f', rate: 5 });
  for (const query of ['subscription_id=s', 'script_id=c', 'last=7d', 'from=a&until=b', 'text=t&event_type=a.*&error_kind=timeout&event_id=u&status=dead'])
    expect(asBulk(terms(query))).toEqual({ ...asQuery(terms(query)), status: 'dead' });
});

test('a link to one kind of error keeps the rest of the search; one to mend it keeps the time that is shown', () => {
  expect(asLink({ ...read('last=1h&script_id=c'), fingerprint: 'f' })).toEqual({ status: null, last: '1h', script_id: 'c', fingerprint: 'f' });
  expect(asLink(terms('last=1h'))).toEqual({ status: null, from: '2026-01-01T23:00:00.000Z' });
  expect(asLink(read('status=discarded'))).toEqual({ status: 'discarded' });
});

test('the guilty line is the innermost of the stack', () => {
  expect(placeOf('    at inner (a.ts:7:3)\n    at default (a.ts:20:1)')).toEqual({ line: 7, column: 3 });
  expect(placeOf('    at a.ts:2:9')).toEqual({ line: 2, column: 9 });
  expect(placeOf(null)).toBeNull();
});

test('a frame holds the lines around', () => {
  const source = Array.from({ length: 20 }, (_, at) => `line ${at + 1}`).join('\n');
  expect(frame(source, 10)).toEqual({ code: source.split('\n').slice(5, 14).join('\n'), first: 6 });
  expect(frame(source, 1).first).toBe(1);
});
