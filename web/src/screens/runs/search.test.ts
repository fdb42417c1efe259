import { expect, test } from 'vitest';

import { asQuery, readSearch } from './search';

const read = (query: string) => readSearch(new URLSearchParams(query));

test('the URL says which runs, and what it does not know it ignores', () => {
  expect(asQuery(read(''), 0)).toEqual({});
  expect(asQuery(read('outcome=failed&script_id=s&colour=red'), 0)).toEqual({ outcome: 'failed', script_id: 's' });
  expect(asQuery(read('last=1h'), Date.UTC(2026, 0, 1, 12))).toEqual({ from: '2026-01-01T11:00:00.000Z' });
  expect(read('last=soon').last).toBe('');
});
