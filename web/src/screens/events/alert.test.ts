import { expect, test } from 'vitest';

import { pageOf } from './alert';

test('an alert leads to what it is about, and nobody else leads anywhere', () => {
  const of = (type: string, link: unknown) => pageOf({ type, data: { link } as never });
  expect(of('tripline.dead_letter.created', '/dead-letters/l1')).toBe('/dead-letters/l1');
  expect(of('shop.order', '/dead-letters/l1')).toBeNull();
  for (const link of ['//evil.example', 'https://evil.example', 'javascript:alert(1)', 7, undefined]) {
    expect(of('tripline.dead_letter.created', link)).toBeNull();
  }
  expect(pageOf({ type: 'tripline.intake.opened', data: null as never })).toBeNull();
});
