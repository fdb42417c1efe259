/** Selects of what may be thousands: the server searches, and a link may name any of them. */
import { render, screen } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { expect, test, vi } from 'vitest';

import Stage from '../testing/Stage.svelte';
import Emitter from './events/Emitter.svelte';
import ScriptSelect from './scripts/ScriptSelect.svelte';

/** Scripts `s000` to `s229`, fifty to a page, as the server would tell of them. */
function server() {
  const all = Array.from({ length: 230 }, (_, at) => `s${String(at).padStart(3, '0')}`).map((name) => ({ id: `id-${name}`, name }));
  return vi.spyOn(globalThis, 'fetch').mockImplementation((input) => {
    const { pathname, searchParams } = new URL(String(input));
    const json = (body: unknown, status = 200) =>
      Promise.resolve(new Response(JSON.stringify(body), { status, headers: { 'content-type': status < 400 ? 'application/json' : 'application/problem+json' } }));
    if (pathname === '/api/v1/scripts') {
      const fits = all.filter(({ name }) => name.includes(searchParams.get('text') ?? ''));
      const limit = Number(searchParams.get('limit'));
      return json({ items: fits.slice(0, limit), next: fits.length > limit ? 'c' : null });
    }
    const one = all.find(({ id }) => pathname.endsWith(`/${id}`));
    return one ? json(one) : json({ type: '', title: 'none', status: 404, code: 'not_found', detail: 'there is none' }, 404);
  });
}

const show = (Screen: typeof ScriptSelect | typeof Emitter, given: Record<string, unknown>) => render(Stage, { props: { Screen, given } });
const asked = (fetch: ReturnType<typeof server>): string[] => fetch.mock.calls.map(([input]) => new URL(String(input))).map((url) => url.pathname + url.search);

test('nothing is asked before somebody looks, and the last of many is found by its name', async () => {
  const fetch = server();
  const onchange = vi.fn();
  show(ScriptSelect, { any: 'Any script', value: '', onchange });
  const field = screen.getByRole('combobox', { name: 'Script' });
  expect(field).toHaveAttribute('placeholder', 'Any script');
  expect(asked(fetch)).toEqual([]);
  await userEvent.click(field);
  expect(await screen.findByText('50 shown, there are more: type to narrow')).toBeInTheDocument();
  expect(screen.getAllByRole('option')).toHaveLength(51);
  await userEvent.keyboard('s229');
  await userEvent.click(await screen.findByRole('option', { name: 's229' }));
  expect(onchange.mock.calls).toEqual([['id-s229']]);
  // Not for every letter.
  expect(asked(fetch)).toEqual(['/api/v1/scripts?limit=50&kind=script', '/api/v1/scripts?text=s229&limit=50&kind=script']);
});

test('a link may name one that is far down, or deleted', async () => {
  server();
  const { unmount } = show(ScriptSelect, { value: 'id-s229', onchange: vi.fn() });
  await vi.waitFor(() => expect(screen.getByRole('combobox')).toHaveValue('s229'));
  unmount();
  show(ScriptSelect, { value: '0190-deleted', onchange: vi.fn() });
  await vi.waitFor(() => expect(screen.getByRole('combobox')).toHaveValue('…eleted'));
});

test('an emitting subscription is named, and one that is deleted keeps its address', async () => {
  const fetch = server();
  const { unmount } = show(Emitter, { source: '/tripline/subscriptions/id-s229' });
  expect(await screen.findByText('emitted by s229')).toBeInTheDocument();
  unmount();
  show(Emitter, { source: '/tripline/subscriptions/gone' });
  expect(screen.getByText('/tripline/subscriptions/gone')).toBeInTheDocument();
  await vi.waitFor(() => expect(asked(fetch)).toContain('/api/v1/subscriptions/gone'));
});
