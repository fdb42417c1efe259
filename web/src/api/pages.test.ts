import { expect, test } from 'vitest';

import { allItems, firstPage, pages } from './pages';

const data = { pages: [{ items: [3, 2], next: 'c' }, { items: [1], next: null }], pageParams: [undefined, 'c'] };

test('pages are one list, and the newest alone is a shorter one', () => {
  expect(allItems(data)).toEqual([3, 2, 1]);
  expect(firstPage(data)).toEqual({ pages: [{ items: [3, 2], next: 'c' }], pageParams: [undefined] });
  expect(firstPage(undefined)).toBeUndefined();
});

test('what was scrolled through is not read again for a look at another window', () => {
  expect(pages.refetchOnWindowFocus({ state: { data } })).toBe(false);
  expect(pages.refetchOnWindowFocus({ state: { data: firstPage(data) } })).toBe(true);
});
