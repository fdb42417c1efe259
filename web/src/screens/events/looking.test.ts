/** A search that finds little goes on by itself, and says how far back it came. */
import { render, screen } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { session } from '../../api/session.svelte';
import { place } from '../../router/router.svelte';
import Stage from '../../testing/Stage.svelte';
import Events from './Events.svelte';

const FOUND = { uid: 'u-1', id: 'u-1', type: 'shop.order', source: '/shop', subject: 'needle', accepted_at: '2026-11-01T00:00:00Z', deliveries: [] };

/** Answers searches for events by their cursor; everything else has nothing. */
function pages(page: (cursor: string | null) => unknown) {
  const asked: (string | null)[] = [];
  vi.spyOn(globalThis, 'fetch').mockImplementation((input) => {
    const url = new URL(String(input));
    const isSearch = url.pathname.endsWith('/events') && !url.pathname.includes('live');
    if (isSearch) asked.push(url.searchParams.get('cursor'));
    const body = isSearch ? page(url.searchParams.get('cursor')) : { items: [], next: null };
    return Promise.resolve(new Response(JSON.stringify(body), { headers: { 'content-type': 'application/json' } }));
  });
  return asked;
}

beforeEach(() => {
  session.who = { name: 'viewer', role: 'viewer', expires_at: null } as never;
  place.setQuery({ filter: '$.n == 1' });
});
afterEach(() => {
  session.who = undefined;
  place.setQuery({ filter: '' });
});

test('pages without finds are passed over', async () => {
  const asked = pages((cursor) =>
    cursor === 'b' ? { items: [FOUND], next: null, looked_back_to: FOUND.accepted_at } : { items: [], next: cursor ? 'b' : 'a', looked_back_to: '2026-11-02T00:00:00Z' },
  );
  render(Stage, { props: { Screen: Events } });
  expect(await screen.findByText('needle')).toBeInTheDocument();
  expect(asked).toEqual([null, 'a', 'b']);
});

test('it stops when asked, and goes on when asked', async () => {
  let n = 0;
  const asked = pages(() => ({ items: [], next: `c${(n += 1)}`, looked_back_to: '2026-11-02T00:00:00Z' }));
  render(Stage, { props: { Screen: Events } });
  await userEvent.click(await screen.findByRole('button', { name: 'Stop' }));
  expect(await screen.findByText('Nothing found so far')).toBeInTheDocument();
  expect(screen.getByText(/Looked back to/)).toBeInTheDocument();
  const before = asked.length;
  await userEvent.click(screen.getByRole('button', { name: 'Look further back' }));
  await vi.waitFor(() => expect(asked.length).toBeGreaterThan(before));
});
