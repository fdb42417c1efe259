import { createRawSnippet, tick } from 'svelte';
import { fireEvent, render, screen } from '@testing-library/svelte';
import { expect, test, vi } from 'vitest';

import Table from './Table.svelte';
import { inPlace, into, lengthened } from './window';

const cell = createRawSnippet<[{ id: string }]>((row) => ({ render: () => `<b>${row().id}</b>` }));
const columns = [{ id: 'id', label: 'Id', cell }];
const many = Array.from({ length: 1_000 }, (_, at) => ({ id: `r${at}` }));

test('the least scrolling brings a row into sight', () => {
  expect(into(0, 38, 500, 380)).toBe(0);
  expect(into(20, 38, 500, 380)).toBe(500);
  expect(into(40, 38, 500, 380)).toBe(41 * 38 - 380);
});

test('rows that were read below are let through, new ones above wait', () => {
  const key = (row: string): string => row;
  const before = ['c', 'b'];
  expect(lengthened(before, ['c', 'b', 'a'], key)).toEqual(['c', 'b', 'a']);
  expect(lengthened(before, ['d', 'c', 'b', 'a'], key)).toEqual(['c', 'b', 'a']);
  expect(lengthened(before, ['d', 'c', 'b'], key)).toBe(before);
  expect(lengthened(before, ['x'], key)).toBe(before);
});

test('under the pointer numbers change in their places', () => {
  const row = (id: string, n: number) => ({ id, n });
  const now = inPlace([row('a', 1), row('gone', 1), row('b', 1)], [row('new', 2), row('b', 2), row('a', 2)], ({ id }) => id);
  expect(now).toEqual([row('a', 2), row('gone', 1), row('b', 2)]);
});

test('keys walk over rows that are not drawn yet, and find their place again', async () => {
  const onselect = vi.fn();
  render(Table<{ id: string }>, { label: 'Rows', virtual: true, rows: many, columns, key: (row) => row.id, onselect });
  const box = screen.getByRole('table');
  await fireEvent.keyDown(box, { key: 'j' });
  for (let at = 0; at < 60; at += 1) {
    await fireEvent.keyDown(document.activeElement!, { key: 'j' });
    await tick();
  }
  expect(document.activeElement).toHaveTextContent('r60');
  // Scrolled out of sight it is not drawn: the box has the focus, and goes on from there.
  box.scrollTop = 20_000;
  await fireEvent.scroll(box);
  expect(document.activeElement).toBe(box);
  await fireEvent.keyDown(box, { key: 'k' });
  await tick();
  expect(document.activeElement).toHaveTextContent('r59');
  await fireEvent.keyDown(document.activeElement!, { key: 'Enter' });
  expect(onselect).toHaveBeenCalledWith({ id: 'r59' });
});
