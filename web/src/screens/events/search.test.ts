import { expect, test } from 'vitest';

import { asQuery, canFollow, readSearch, takes } from './search';

const read = (query: string) => readSearch(new URLSearchParams(query));

test('the URL says what is searched, and nothing means everything', () => {
  expect(asQuery(read(''), 0)).toEqual({ data: false });
  expect(asQuery(read('type=a.*&filter=$.x>1&last=1h'), Date.UTC(2026, 0, 1, 12))).toMatchObject({
    type: 'a.*',
    filter: '$.x>1',
    from: '2026-01-01T11:00:00.000Z',
  });
});

test('a subject that looks like a number stays text', () => {
  expect(read('subject=007').subject).toBe('007');
});

test('a span that nobody knows is no span', () => {
  expect(read('last=soon').last).toBe('');
  expect(read('from=2026-01-01T00:00:00Z').last).toBe('custom');
});

test('what needs the payload or the past cannot be followed by the feed', () => {
  expect(canFollow(read('type=a.**&subject=s'))).toBe(true);
  expect(canFollow(read('filter=$.a'))).toBe(false);
  expect(canFollow(read('unmatched'))).toBe(false);
  expect(canFollow(read('until=2026-01-01T00:00:00Z'))).toBe(false);
});

test('new events are held against type, subject and source', () => {
  const event = { type: 'a.b', subject: 's', source: '/x' };
  expect(takes(read('type=a.*&subject=s&source=/x'), event)).toBe(true);
  expect(takes(read('subject=t'), event)).toBe(false);
  expect(takes(read('type=a'), event)).toBe(false);
});
