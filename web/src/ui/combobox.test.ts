import { fireEvent, render, screen } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import Combobox from './Combobox.svelte';
import { called, fitting, lastLine, step, type Matches } from './combobox';

const items = ['bill', 'book', 'Book club'].map((label) => ({ value: `id-${label}`, label }));
const found: Matches = { text: '', items, more: false };

describe('what is offered', () => {
  test('an answer to the text is taken as it is, of an earlier one what still fits', () => {
    expect(fitting({ ...found, text: 'x' }, 'x')).toEqual(items);
    expect(fitting(found, 'BOOK').map(({ label }) => label)).toEqual(['book', 'Book club']);
    expect(fitting(undefined, '')).toEqual([]);
  });

  test('a name in full means the one that bears it, unless two do', () => {
    expect(called(items, 'BOOK')?.label).toBe('book');
    expect(called(items, 'boo')).toBeUndefined();
    expect(called([...items, { value: 'other', label: 'BOOK' }], 'book')).toBeUndefined();
  });

  test.each([
    ['ArrowDown', -1, 0],
    ['ArrowDown', 2, 0],
    ['ArrowUp', -1, 2],
    ['ArrowUp', 0, 2],
    ['ArrowUp', 2, 1],
    ['Home', 2, 0],
    ['End', 0, 2],
    ['a', 0, null],
  ])('%s from %d leads to %s', (key, at, to) => expect(step(key, at, 3)).toBe(to));

  test.each(['ArrowDown', 'ArrowUp', 'Home', 'End'])('%s leads nowhere among none', (key) => expect(step(key, -1, 0)).toBe(-1));

  test('the last line says whether this is all', () => {
    expect(lastLine(found, '', null)).toBe('');
    expect(lastLine({ ...found, more: true }, '', null)).toBe('3 shown, there are more: type to narrow');
    expect(lastLine({ ...found, text: 'b', more: true }, 'b', null)).toBe('3 shown, more match: type to narrow');
    expect(lastLine(found, 'b', null)).toBe('Looking…');
    expect(lastLine(undefined, '', null)).toBe('Looking…');
    expect(lastLine({ text: 'x', items: [], more: false }, 'x', null)).toBe('No name has “x” in it');
    expect(lastLine({ text: '', items: [], more: false }, '', null)).toBe('There are none yet');
    expect(lastLine(undefined, '', 'the disk is full')).toBe('The list cannot be read: the disk is full');
  });
});

describe('a combobox', () => {
  beforeEach(() => void vi.useFakeTimers({ shouldAdvanceTime: true }));
  afterEach(() => void vi.useRealTimers());

  function show(more: Record<string, unknown> = {}) {
    const [onsearch, onchoose] = [vi.fn(), vi.fn()];
    const user = userEvent.setup({ advanceTimers: vi.advanceTimersByTime });
    const drawn = render(Combobox, { label: 'Script', value: '', name: '', matches: found, onsearch, onchoose, ...more });
    return { ...drawn, onsearch, onchoose, user, field: screen.getByRole('combobox', { name: 'Script' }) };
  }
  const offered = (): (string | null)[] => screen.queryAllByRole('option').map((option) => option.textContent.trim());
  const active = (field: HTMLElement): string | undefined => document.getElementById(field.getAttribute('aria-activedescendant') ?? '')?.textContent.trim();

  test('is closed until it is asked, and asks for the first page then', async () => {
    const { field, onsearch, user } = show();
    expect(field).toHaveAttribute('aria-expanded', 'false');
    await user.tab();
    expect(field).toHaveFocus();
    expect(onsearch).not.toHaveBeenCalled();
    await user.keyboard('{ArrowDown}');
    expect(field).toHaveAttribute('aria-expanded', 'true');
    expect(field.getAttribute('aria-controls')).toBe(screen.getByRole('listbox', { name: 'Script' }).id);
    expect(onsearch.mock.calls).toEqual([['']]);
    expect(offered()).toEqual(['bill', 'book', 'Book club']);
  });

  test('arrows, Home and End walk, Enter takes, and the form is not sent by it', async () => {
    const { field, onchoose, onsearch, user } = show({ value: 'id-book', name: 'book' });
    field.focus();
    await user.keyboard('{ArrowDown}');
    expect(active(field)).toBe('book');
    await user.keyboard('{ArrowDown}');
    expect(active(field)).toBe('Book club');
    await user.keyboard('{ArrowDown}');
    expect(active(field)).toBe('bill');
    await user.keyboard('{ArrowUp}');
    expect(active(field)).toBe('Book club');
    await user.keyboard('{Home}{End}');
    expect(active(field)).toBe('Book club');
    expect(screen.getAllByRole('option', { selected: true })).toHaveLength(1);
    await user.keyboard('{Home}');
    // Prevented: the form stays.
    await expect(fireEvent.keyDown(field, { key: 'Enter' })).resolves.toBe(false);
    expect(onchoose.mock.calls).toEqual([[items[0]]]);
    expect(onsearch).toHaveBeenLastCalledWith(null);
    await vi.waitFor(() => expect(field).toHaveAttribute('aria-expanded', 'false'));
    expect(field).toHaveFocus();
  });

  test('typing filters at once, asks when the reader pauses, and Enter takes the first', async () => {
    const { field, onchoose, onsearch, rerender, user } = show();
    await user.type(field, 'club');
    expect(offered()).toEqual(['Book club']);
    expect(screen.getByRole('status')).toHaveTextContent('Looking…');
    expect(onsearch).not.toHaveBeenCalledWith('club');
    vi.advanceTimersByTime(250);
    expect(onsearch).toHaveBeenLastCalledWith('club');
    const far = { value: 'id-230', label: 'a club far down' };
    await rerender({ matches: { text: 'club', items: [far, ...items.slice(2)], more: true } });
    expect(offered()).toEqual(['a club far down', 'Book club']);
    expect(screen.getByRole('status')).toHaveTextContent('2 shown, more match: type to narrow');
    await user.keyboard('{Enter}');
    expect(onchoose.mock.calls).toEqual([[far]]);
  });

  test('what was walked to stays when the answer comes', async () => {
    const { field, rerender, user } = show();
    await user.type(field, 'b');
    await user.keyboard('{ArrowDown}');
    expect(active(field)).toBe('book');
    await rerender({ matches: { text: 'b', items: [{ value: 'new', label: 'abba' }, ...items], more: false } });
    expect(active(field)).toBe('book');
  });

  test('Enter takes nothing while nothing fits', async () => {
    const { field, onchoose, user } = show();
    await user.type(field, 'zebra');
    await expect(fireEvent.keyDown(field, { key: 'Enter' })).resolves.toBe(false);
    expect(onchoose).not.toHaveBeenCalled();
    expect(field).toHaveAttribute('aria-expanded', 'true');
  });

  test('Escape puts back what was chosen, and is no word to the dialog around', async () => {
    const around = vi.fn();
    document.body.addEventListener('keydown', around);
    const { field, onchoose, user } = show({ value: 'gone', name: 'a deleted one' });
    expect(field).toHaveValue('a deleted one');
    await user.clear(field);
    await user.type(field, 'bi');
    around.mockClear();
    await user.keyboard('{Escape}');
    expect(around).not.toHaveBeenCalled();
    expect(field).toHaveValue('a deleted one');
    expect(field).toHaveAttribute('aria-expanded', 'false');
    await user.keyboard('{Escape}');
    expect(around).toHaveBeenCalledOnce();
    expect(onchoose).not.toHaveBeenCalled();
    document.body.removeEventListener('keydown', around);
  });

  test('opening one whose choice is not among the found takes nothing by Enter', async () => {
    const { field, onchoose, user } = show({ value: 'gone', name: 'a deleted one' });
    await user.click(field);
    expect(offered()).toEqual(['bill', 'book', 'Book club']);
    expect(field).not.toHaveAttribute('aria-activedescendant');
    await user.keyboard('{Enter}');
    expect(onchoose).not.toHaveBeenCalled();
  });

  test('a pointer opens and takes, and the field keeps the focus', async () => {
    const { field, onchoose, user } = show();
    await user.click(field);
    await user.click(screen.getByRole('option', { name: 'book' }));
    expect(onchoose.mock.calls).toEqual([[items[1]]]);
    expect(field).toHaveFocus();
    expect(screen.queryByRole('listbox')).toBeNull();
  });

  test('none is offered first where it is a choice, and an emptied field means it', async () => {
    const { field, onchoose, user } = show({ any: 'Any script', value: 'id-book', name: 'book' });
    await user.click(field);
    expect(offered()).toEqual(['Any script', 'bill', 'book', 'Book club']);
    expect(active(field)).toBe('book');
    await user.clear(field);
    expect(active(field)).toBe('Any script');
    await user.tab();
    expect(onchoose.mock.calls).toEqual([[{ value: '', label: 'Any script' }]]);
  });

  test('without it an emptied field keeps what was chosen', async () => {
    const { field, onchoose, user } = show({ value: 'id-book', name: 'book' });
    await user.clear(field);
    expect(active(field)).toBe('book');
    await user.tab();
    expect(field).toHaveValue('book');
    expect(onchoose).not.toHaveBeenCalled();
  });

  test('whoever leaves after a whole name has chosen it, after a part of one has not', async () => {
    const { field, onchoose, user } = show();
    await user.type(field, 'boo');
    await user.tab();
    expect(onchoose).not.toHaveBeenCalled();
    expect(field).toHaveValue('');
    await user.type(field, 'BOOK');
    await user.tab();
    expect(onchoose.mock.calls).toEqual([[items[1]]]);
  });

  test('a list that cannot be read says why, and an error is told with the field', async () => {
    const { field, user } = show({ matches: undefined, failure: 'the server does not answer', error: 'no such script' });
    expect(field).toHaveAccessibleDescription('no such script');
    expect(field).toBeInvalid();
    await user.click(field);
    expect(screen.getByRole('status')).toHaveTextContent('The list cannot be read: the server does not answer');
  });
});
