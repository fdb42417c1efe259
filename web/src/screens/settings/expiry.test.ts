import { expect, test } from 'vitest';

import { endOf } from './expiry';

test('a life is counted from now', () => {
  expect(endOf('30', Date.UTC(2026, 0, 1))).toBe('2026-01-31T00:00:00.000Z');
  expect(endOf('', 0)).toBeNull();
});
