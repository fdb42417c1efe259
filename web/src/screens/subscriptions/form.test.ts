import { expect, test } from 'vitest';

import { attempts, bodyOf, FRESH } from './form';

test('the attempts come when the policy says', () => {
  const policy = { max_attempts: 4, kind: 'exponential' as const, initial_ms: 1_000, max_ms: 3_000, factor: 2 };
  expect(attempts(policy)).toEqual([0, 1_000, 3_000, 6_000]);
  expect(attempts({ ...policy, kind: 'fixed' })).toEqual([0, 1_000, 2_000, 3_000]);
  expect(attempts({ ...policy, max_attempts: 1 })).toEqual([0]);
});

test('what is empty is nothing, and a key is for strict order alone', () => {
  const body = bodyOf({ ...FRESH, name: ' a ', event_type: 'x.*', ordering_key: '$.id' });
  expect(body).toMatchObject({ name: 'a', filter: null, ordering_key: null, retry_policy: { max_attempts: 3 } });
  expect(bodyOf({ ...FRESH, ordering: 'strict', ordering_key: '$.id' }).ordering_key).toBe('$.id');
});
