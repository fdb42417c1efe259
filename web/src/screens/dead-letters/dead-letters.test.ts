import { expect, test } from 'vitest';

import { frame, placeOf } from './frame';
import { asBulk, asQuery, readSearch } from './search';

const read = (query: string) => readSearch(new URLSearchParams(query));

test('letters that are dead are asked for, unless the URL says otherwise', () => {
  expect(asQuery(read(''))).toEqual({ status: 'dead' });
  expect(asQuery(read('status=discarded&text=smtp'))).toEqual({ status: 'discarded', text: 'smtp' });
  expect(asQuery(read('event_id=u'))).toEqual({ event_id: 'u' });
  expect(asQuery(read('error_kind=nonsense'))).toEqual({ status: 'dead' });
});

test('a bulk operation takes what is shown, and only the dead', () => {
  expect(asBulk(read('fingerprint=f'), { rate: 5 })).toEqual({ status: 'dead', fingerprint: 'f', rate: 5 });
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
