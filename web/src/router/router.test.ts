import { beforeEach, describe, expect, test, vi } from 'vitest';

import { Dialogue } from './dialog';
import { href, match, place } from './router.svelte';

describe('patterns', () => {
  test.each([
    ['/events', '/events', {}],
    ['/events/:uid', '/events/a%2Fb', { uid: 'a/b' }],
    ['/events/:uid', '/events', null],
    ['/events/:uid', '/events/', null],
    ['/events/:uid', '/scripts/1', null],
    ['/events/:uid', '/events/%E0%A4%A', { uid: '%E0%A4%A' }],
  ])('%s on %s', (pattern, path, expected) => {
    expect(match(pattern, path)).toEqual(expected);
  });

  test('addresses escape their parts and leave empty values out', () => {
    expect(href('/events/:uid', { uid: 'a/b c' })).toBe('/events/a%2Fb%20c');
    expect(href('/events', null, { type: 'a.*', filter: '', unmatched: true, limit: 0 })).toBe('/events?type=a.*&unmatched=true&limit=0');
  });
});

describe('the place', () => {
  beforeEach(() => {
    vi.spyOn(window, 'scrollTo').mockImplementation(() => {});
    history.replaceState(null, '', '/');
    document.body.innerHTML = '';
  });
  place.start();

  function click(init: MouseEventInit & { html?: string } = {}): boolean {
    document.body.innerHTML = init.html ?? '<a href="/events?x=1">there</a>';
    const event = new MouseEvent('click', { bubbles: true, cancelable: true, ...init });
    // Nothing else handles it: the environment cannot navigate.
    document.addEventListener('click', (late) => late.preventDefault(), { once: true, capture: false });
    document.querySelector('a')?.dispatchEvent(event);
    return place.path === '/events';
  }

  test('a link is followed without loading a page', async () => {
    click();
    await vi.waitFor(() => expect(place.path).toBe('/events'));
    expect(place.query.get('x')).toBe('1');
  });

  test('a click with Ctrl belongs to the browser', async () => {
    await place.go('/');
    expect(click({ ctrlKey: true })).toBe(false);
    expect(click({ button: 1 })).toBe(false);
    expect(click({ html: '<a href="/api/docs">docs</a>' })).toBe(false);
    expect(click({ html: '<a href="https://example.com/events">elsewhere</a>' })).toBe(false);
  });

  test('values of the query stay text, and empty ones go', async () => {
    await place.go('/events?subject=007');
    place.setQuery({ type: 'a.b' });
    expect(location.search).toBe('?subject=007&type=a.b');
    place.setQuery({ subject: '' });
    expect(location.search).toBe('?type=a.b');
  });

  test('a dialog is in the address, closed by Back, and is nothing to leave', async () => {
    const ask = new Dialogue('backfill');
    await place.go('/subscriptions/s?x=1');
    const visits = place.visits;
    const guard = vi.fn(() => false);
    const release = place.guardLeaving(guard);
    const before = history.length;
    ask.open = true;
    expect([location.search, history.length, ask.open]).toEqual(['?x=1&do=backfill', before + 1, true]);
    history.back();
    await vi.waitFor(() => expect(ask.open).toBe(false));
    history.forward();
    await vi.waitFor(() => expect(ask.open).toBe(true));
    // Escape and the button may both close it: that is one step.
    ask.open = false;
    ask.open = false;
    await vi.waitFor(() => expect(location.search).toBe('?x=1'));
    expect([place.path, place.visits, guard.mock.calls.length]).toEqual(['/subscriptions/s', visits, 0]);
    release();
  });

  test('a dialog of a shared address closes where it is, and one leads to another without a step', async () => {
    await place.go('/scripts/c?do=edit&of=s');
    const [edit, versions] = [new Dialogue('edit'), new Dialogue('versions')];
    expect([edit.of, versions.of]).toEqual(['s', null]);
    const before = history.length;
    versions.show();
    expect([location.search, history.length]).toEqual(['?do=versions', before]);
    versions.open = false;
    expect([location.search, history.length]).toEqual(['', before]);
  });

  test('unsaved work can keep the reader', async () => {
    await place.go('/events');
    const release = place.guardLeaving(() => false);
    await place.go('/settings');
    expect(place.path).toBe('/events');
    release();
    await place.go('/settings');
    expect(place.path).toBe('/settings');
  });
});
