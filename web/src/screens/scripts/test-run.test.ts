import { expect, test } from 'vitest';

import { marksOf, testOf, testOn, type TestOn } from './test-run';

const on = (more: Partial<TestOn>): TestOn => ({ kind: 'json', eventId: '', letterId: '', runId: '', json: '{', fetch: false, ...more });
const base = { source: 's', language: 'typescript', fetch: false };

test('a stored event is run as it is stored, JSON with all its digits', () => {
  expect(testOf('s', 'typescript', on({ kind: 'event', eventId: ' u1 ' }))).toEqual({ ...base, event_id: 'u1' });
  expect(String((testOf('s', 'typescript', on({ json: '{"n":9007199254740993}' })).data as any).n)).toBe('9007199254740993');
  expect(testOf('s', 'typescript', on({ kind: 'letter', letterId: 'l1', fetch: true }))).toEqual({ ...base, fetch: true, letter_id: 'l1' });
  expect(() => testOf('s', 'typescript', on({}))).toThrow();
  expect(() => testOf('s', 'typescript', on({ kind: 'letter', eventId: 'u1' }))).toThrow('Choose a dead letter');
});

test('the URL says what to run on', () => {
  expect(testOn(new URLSearchParams('event=u1'))).toMatchObject({ kind: 'event', eventId: 'u1' });
  expect(testOn(new URLSearchParams('letter=l1&drain=1'))).toMatchObject({ kind: 'letter', letterId: 'l1' });
  expect(testOn(new URLSearchParams('run=r1'))).toMatchObject({ kind: 'run', runId: 'r1' });
  expect(testOn(new URLSearchParams())).toMatchObject({ kind: 'json' });
});

test('the mark stands where the compiler or the stack says', () => {
  const out = (error: unknown) => ({ error }) as never;
  expect(marksOf(out({ message: 'm', line: 3, column: 4 }))).toEqual([{ message: 'm', line: 3, column: 4 }]);
  expect(marksOf(out({ message: 'm', stack: '    at default (test.ts:1:51)' }))).toEqual([{ message: 'm', line: 1, column: 51 }]);
  expect(marksOf(out({ message: 'm', stack: null }))).toEqual([]);
  expect(marksOf(out(null))).toEqual([]);
});
