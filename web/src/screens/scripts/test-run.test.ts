import { expect, test } from 'vitest';

import { marksOf, testOf } from './test-run';

test('a stored event is run as it is stored, JSON with all its digits', () => {
  expect(testOf('s', 'typescript', { eventId: ' u1 ', letterId: 'l1', json: '{' })).toEqual({ source: 's', language: 'typescript', event_id: 'u1' });
  expect(String((testOf('s', 'typescript', { eventId: '', letterId: '', json: '{"n":9007199254740993}' }).data as any).n)).toBe('9007199254740993');
  expect(testOf('s', 'typescript', { eventId: '', letterId: 'l1', json: '{' })).toEqual({ source: 's', language: 'typescript', letter_id: 'l1' });
  expect(() => testOf('s', 'typescript', { eventId: '', letterId: '', json: '{' })).toThrow();
});

test('the mark stands where the compiler or the stack says', () => {
  const out = (error: unknown) => ({ error }) as never;
  expect(marksOf(out({ message: 'm', line: 3, column: 4 }))).toEqual([{ message: 'm', line: 3, column: 4 }]);
  expect(marksOf(out({ message: 'm', stack: '    at default (test.ts:1:51)' }))).toEqual([{ message: 'm', line: 1, column: 51 }]);
  expect(marksOf(out({ message: 'm', stack: null }))).toEqual([]);
  expect(marksOf(out(null))).toEqual([]);
});
