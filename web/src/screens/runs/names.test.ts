import { expect, test } from 'vitest';

import { attemptOf, titleOf } from './names';

test('a run is called by what ran, how it ended and on what', () => {
  expect(titleOf({ subscription_name: 'book', outcome: 'failed' }, 'order.placed')).toBe('book failed on order.placed');
  expect(titleOf({ subscription_name: null, outcome: 'succeeded' }, undefined)).toBe('A deleted subscription succeeded');
  expect([attemptOf({ replay: 0, attempt: 2 }), attemptOf({ replay: 1, attempt: 3 })]).toEqual(['Attempt 2', 'Replay 1, attempt 3']);
});
