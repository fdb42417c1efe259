import { expect, test } from 'vitest';

import { policy } from './policy';

const settings = (more: Record<string, unknown>) =>
  Object.entries({ strategy: 'one_for_one', 'backoff.initial': '100ms', 'backoff.max': '30s', 'backoff.factor': 2, max_restarts: 5, window: '1m', on_exhausted: 'suspend', ...more }).map(
    ([key, value]) => ({ key: `supervisor.${key}`, value, source: 'default' }),
  );

test('the policy is a sentence', () => {
  expect(policy(settings({}))).toBe('A crash restarts the one that crashed, after 100ms growing ×2 to 30s; after 5 within 1m it is suspended.');
  expect(policy(settings({ strategy: 'one_for_all', on_exhausted: 'escalate' }))).toMatch(/^A crash restarts all of the same script.*the process ends\.$/);
});
