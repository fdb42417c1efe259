import { expect, test, vi } from 'vitest';

import { allItems, firstPage, pages, readAll } from './pages';

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

test('a list is read to its end, page after page', async () => {
  const read = vi.fn((cursor: string | undefined) => Promise.resolve(cursor ? { items: [1], next: null } : data.pages[0]!));
  await expect(readAll(read)).resolves.toEqual([3, 2, 1]);
  expect(read.mock.calls).toEqual([[undefined], ['c']]);
});
