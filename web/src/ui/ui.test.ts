import { fireEvent, render, screen } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { createRawSnippet } from 'svelte';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { parseJson } from '../api/json';
import { Problem } from '../api/problem';
import CodeBlock from './CodeBlock.svelte';
import ColumnError from './ColumnError.svelte';
import ErrorState from './ErrorState.svelte';
import JsonTree from './JsonTree.svelte';
import { keyHandler, shortcuts } from './keys';
import { bytes, compact, plural, rate } from './numbers';
import Page from './Page.svelte';
import Search from './Search.svelte';
import Still from './Still.svelte';
import Tabs from './Tabs.svelte';
import { absolute, ago, duration } from './time';
import Toasts from './Toasts.svelte';
import { toasts } from './toasts.svelte';
import { visible } from './visible';
import { shift, span } from './window';

describe('times and quantities', () => {
  const now = Date.parse('2026-01-02T00:00:00Z');
  test.each([
    ['2026-01-01T23:59:57Z', '3s ago'],
    ['2026-01-01T22:30:00Z', '1h ago'],
    ['2026-01-02T00:00:20Z', 'in 20s'],
    ['2026-01-02T00:00:00Z', 'now'],
  ])('%s is %s', (at, expected) => expect(ago(at, now)).toBe(expected));

  test.each([
    [0, '0 ms'],
    [0.414, '0.41 ms'],
    [820.4, '820 ms'],
    [3_210, '3.2 s'],
    [250_000, '4m 10s'],
    [7_500_000, '2h 5m'],
    [273_600_000, '3d 4h'],
  ])('%d ms is %s', (ms, expected) => expect(duration(ms)).toBe(expected));

  test('UTC says so', () => expect(absolute('2026-01-02T03:04:05.006Z', 'utc')).toBe('2026-01-02 03:04:05.006 UTC'));

  test('numbers are short and honest', () => {
    expect([bytes(0), bytes(1_536), bytes(5 * 2 ** 30)]).toEqual(['0 B', '1.5 KiB', '5.0 GiB']);
    expect([compact(9_999), compact(12_345), rate(0.04), rate(1_234)]).toEqual(['9,999', '12.3K', '0.0', '1,234']);
    expect([plural(1, 'event'), plural(2, 'entry', 'entries')]).toEqual(['1 event', '2 entries']);
  });
});

describe('a long table', () => {
  test('draws what is in sight, and a little more', () => {
    expect(span(10_000, 38, 38_000, 760)).toEqual({ from: 992, to: 1_028 });
    expect(span(3, 38, 0, 760)).toEqual({ from: 0, to: 3 });
  });

  test('stays where it is when rows come in above', () => {
    expect(shift(['c', 'b', 'a'], ['e', 'd', 'c', 'b', 'a'], 38, 38)).toBe(76);
    expect(shift(['c', 'b'], ['x'], 38, 38)).toBe(0);
  });
});

describe('JSON as a tree', () => {
  test('shows digits as they were received, and markup as text', () => {
    const { container } = render(JsonTree, { value: parseJson('{"id":9007199254740993,"html":"<b>x</b>"}') });
    expect(screen.getByText('9007199254740993')).toBeInTheDocument();
    expect(screen.getByText('"<b>x</b>"')).toBeInTheDocument();
    expect(container.querySelector('b')).toBeNull();
  });

  test('a long list comes in parts', async () => {
    render(JsonTree, { value: Array.from({ length: 250 }, (_, at) => at) });
    expect(screen.queryByText('249')).toBeNull();
    await userEvent.click(screen.getByRole('button', { name: '150 more' }));
    await userEvent.click(screen.getByRole('button', { name: '50 more' }));
    expect(screen.getByText('249')).toBeInTheDocument();
  });
});

test('code has its lines numbered and the guilty one marked', () => {
  const { container } = render(CodeBlock, { code: 'a\nb\n', firstLine: 7, numbered: true, marked: [8] });
  expect([...container.querySelectorAll('.line')].map((line) => line.getAttribute('data-line'))).toEqual(['7', '8']);
  expect(container.querySelector('.marked')).toHaveTextContent('b');
  expect(container.querySelector('code')?.textContent).toBe('a\nb\n');
});

function problem(more: Partial<Problem['details']>): Problem {
  return new Problem({ type: '', title: 'The filter is wrong', status: 422, code: 'filter_invalid', detail: 'column 12: unexpected `=`', ...more });
}

test('marks that turn the order of letters around are seen, and copied as they are', () => {
  const text = 'pay\u202e 001 ot';
  render(JsonTree, { props: { value: { to: text } } });
  expect(screen.getByText('"pay\\u202e 001 ot"')).toBeInTheDocument();
  const { container } = render(CodeBlock, { props: { code: text } });
  expect(container.querySelector('.line')).toHaveTextContent('pay\\u202e 001 ot');
  expect(visible('tab\there\nnext 👩‍💻')).toBe('tab\there\nnext 👩‍💻');
});

test('an error in a line is shown under its column', () => {
  render(ColumnError, { text: '$.amount > = 1', problem: problem({ column: 12 }) });
  expect(screen.getByRole('alert')).toHaveTextContent('Column 12: unexpected `=`');
});

test('an error says what, how to mend it, and for which request', async () => {
  const retry = vi.fn();
  render(ErrorState, { error: problem({ hint: 'write `>=`', request_id: 'r1' }), retry });
  expect(screen.getByRole('alert')).toHaveTextContent(/The filter is wrong.*write `>=`.*r1/s);
  await userEvent.click(screen.getByRole('button', { name: 'Try again' }));
  expect(retry).toHaveBeenCalledOnce();
});

test('arrow keys walk the tabs', async () => {
  const onselect = vi.fn();
  const tabs = [{ id: 'a', label: 'A' }, { id: 'b', label: 'B' }];
  render(Tabs<string>, { label: 'Parts', tabs, selected: 'a', onselect });
  screen.getByRole('tab', { name: 'A' }).focus();
  await userEvent.keyboard('{ArrowRight}{ArrowRight}');
  expect(onselect.mock.calls).toEqual([['b'], ['a']]);
});

describe('a search field', () => {
  beforeEach(() => void vi.useFakeTimers({ shouldAdvanceTime: true }));
  afterEach(() => void vi.useRealTimers());

  test('asks when the reader pauses, or presses Enter', async () => {
    const onsearch = vi.fn();
    const user = userEvent.setup({ advanceTimers: vi.advanceTimersByTime });
    render(Search, { label: 'Find', value: '', onsearch });
    await user.type(screen.getByLabelText('Find'), 'abc');
    expect(onsearch).not.toHaveBeenCalled();
    vi.advanceTimersByTime(400);
    expect(onsearch.mock.calls).toEqual([['abc']]);
    await user.keyboard('d{Enter}');
    expect(onsearch).toHaveBeenLastCalledWith('abcd');
  });
});

describe('shortcuts', () => {
  const press = (handle: (event: KeyboardEvent) => void, key: string, target: EventTarget = document.body): void => {
    const event = new KeyboardEvent('keydown', { key });
    Object.defineProperty(event, 'target', { value: target });
    handle(event);
  };

  test('two keys in a row are one, unless they are far apart or typed', () => {
    let time = 0;
    const handle = keyHandler(() => time);
    const run = vi.fn();
    const off = shortcuts({ keys: 'g e', label: 'Events', run });
    press(handle, 'g');
    press(handle, 'e');
    expect(run).toHaveBeenCalledTimes(1);
    press(handle, 'g');
    time += 5_000;
    press(handle, 'e');
    press(handle, 'g', document.createElement('input'));
    press(handle, 'e', document.createElement('input'));
    expect(run).toHaveBeenCalledTimes(1);
    off();
    press(handle, 'g');
    press(handle, 'e');
    expect(run).toHaveBeenCalledTimes(1);
  });
});

test('a note can be taken back while it is shown', async () => {
  const undo = vi.fn();
  render(Toasts);
  toasts.good('Discarded', undo);
  await userEvent.click(await screen.findByRole('button', { name: 'Undo' }));
  expect(undo).toHaveBeenCalledOnce();
  expect(screen.queryByText('Discarded')).toBeNull();
});

test('an action that does away with itself leaves the focus at the heading, and takes it from nobody', async () => {
  const snippet = (html: string) => createRawSnippet(() => ({ render: () => html }));
  const given = { title: 'Letter', actions: snippet('<button>Discard</button>'), children: snippet('<input aria-label="Other" />') };
  const { rerender } = render(Page, given);
  screen.getByRole('button').focus();
  await rerender({ actions: snippet('<b>none</b>') });
  await vi.waitFor(() => expect(screen.getByRole('heading')).toHaveFocus());
  await rerender({ actions: snippet('<button>Restore</button>') });
  screen.getByRole('button').focus();
  screen.getByLabelText('Other').focus();
  await rerender({ actions: snippet('<b>none</b>') });
  await new Promise((resolve) => setTimeout(resolve));
  expect(screen.getByLabelText('Other')).toHaveFocus();
});

test('under the pointer a list stands still, unless something else was asked for', async () => {
  let shown = (): string[] => [];
  const children = createRawSnippet<[string[]]>((rows) => ((shown = rows), { render: () => '<p></p>' }));
  const { container, rerender } = render(Still<string[]>, { value: ['a'], of: 'all', children });
  const list = container.querySelector('p')!.parentElement!;
  await fireEvent(list, Object.assign(new Event('pointerenter'), { pointerType: 'mouse' }));
  await rerender({ value: ['b', 'a'] });
  expect(shown()).toEqual(['a']);
  // Asked, and not answered yet; then answered, and followed by more.
  await rerender({ of: null });
  await rerender({ value: ['c'], of: 'some' });
  expect(shown()).toEqual(['c']);
  await rerender({ value: ['d', 'c'] });
  expect(shown()).toEqual(['c']);
  await fireEvent(list, new Event('pointerleave'));
  expect(shown()).toEqual(['d', 'c']);
});
