import { expect, test } from 'vitest';

import type { SubscriptionOut } from '../../api/schema';
import { attempts, bodyOf, formOf, FRESH } from './form';

test('the attempts come when the policy says', () => {
  const policy = { max_attempts: 4, kind: 'exponential' as const, initial_ms: 1_000, max_ms: 3_000, factor: 2 };
  expect(attempts(policy)).toEqual([0, 1_000, 3_000, 6_000]);
  expect(attempts({ ...policy, kind: 'fixed' })).toEqual([0, 1_000, 2_000, 3_000]);
  expect(attempts({ ...policy, max_attempts: 1 })).toEqual([0]);
});

test('limits are numbers and spans, and what is empty is none', () => {
  expect(bodyOf(FRESH).limits).toEqual({ cpu_ms: null, wall_ms: null, memory_bytes: null, rate_limit: null, expires_after: null });
  const limits = bodyOf({ ...FRESH, cpu_ms: '100', memory_mib: '1.5', rate_runs: '10', rate_per: ' 1m ', expires_after: '1h' }).limits;
  expect(limits).toEqual({ cpu_ms: 100, wall_ms: null, memory_bytes: 1_572_864, rate_limit: { runs: 10, per: '1m' }, expires_after: '1h' });
});

test('how much the waits vary is kept as it was', () => {
  const stored = { retry_policy: { max_attempts: 2, backoff: { kind: 'fixed', initial_ms: 5, max_ms: 5, factor: 1, jitter: 0 } }, limits: {} } as unknown as SubscriptionOut;
  expect(bodyOf(formOf({ ...stored, name: '', event_type: '' })).retry_policy).toMatchObject({ backoff: { jitter: 0 } });
});

test('where all waits are the same the longest one is not in the way', () => {
  const fixed = { ...FRESH, kind: 'fixed' as const, initial_ms: 120_000, max_attempts: 3 };
  expect(bodyOf(fixed).retry_policy).toMatchObject({ backoff: { max_ms: 120_000 } });
  expect(attempts(fixed)).toEqual([0, 120_000, 240_000]);
});

test('all attempts that there may be are shown', () => {
  expect(attempts({ ...FRESH, max_attempts: 100 })).toHaveLength(100);
});

test('what is empty is nothing, and a key is for strict order alone', () => {
  const body = bodyOf({ ...FRESH, name: ' a ', event_type: 'x.*', ordering_key: '$.id' });
  expect(body).toMatchObject({ name: 'a', filter: null, ordering_key: null, retry_policy: { max_attempts: 3 } });
  expect(bodyOf({ ...FRESH, ordering: 'strict', ordering_key: '$.id' }).ordering_key).toBe('$.id');
});
