import { expect, test } from 'vitest';

import { screens } from '../screens';
import { commandsOf, search, type Command } from './commands';
import { codeOf } from './login';
import { isWithin, navigation, screenOf } from './navigation';

const command = (label: string, group = 'Go to'): Command => ({ id: label, label, group, icon: 'events', run: () => {} });

test('the palette finds what begins so first, then what contains it, then its letters in order', () => {
  const all = ['Settings', 'Dead letters', 'Tests', 'Set theme'].map((label) => command(label));
  expect(search(all, 'set').map((one) => one.label)).toEqual(['Settings', 'Set theme']);
  expect(search(all, 'letters')[0]?.label).toBe('Dead letters');
  expect(search(all, 'dlt').map((one) => one.label)).toEqual(['Dead letters']);
  expect(search(all, 'xyz')).toEqual([]);
  expect(search(all, ' ')).toHaveLength(4);
});

test('the palette offers what the page does, and nothing that it refuses', () => {
  const page = document.createElement('main');
  page.innerHTML =
    '<button>Elsewhere</button><button data-command="Run the test" data-icon="play">Run</button><button data-command="Gone" disabled></button>' +
    '<div data-actions><a href="#x"> Run again </a><button disabled>Save</button><button aria-label="Copy" data-icon="nonsense"></button></div>';
  const clicked: string[] = [];
  page.addEventListener('click', (event) => clicked.push((event.target as HTMLElement).tagName));
  const found = commandsOf(page);
  expect(found.map(({ label, icon }) => [label, icon])).toEqual([
    ['Run again', 'forward'],
    ['Copy', 'forward'],
    ['Run the test', 'play'],
  ]);
  found[1]?.run();
  expect(clicked).toEqual(['BUTTON']);
});

test('a login code is read from the fragment alone', () => {
  expect(codeOf('#code=abc')).toBe('abc');
  expect(codeOf('#main')).toBeNull();
  expect(codeOf('')).toBeNull();
});

test('every screen is reached by its own path, and keys are given once', () => {
  for (const screen of screens) {
    const path = screen.path.replaceAll(/:\w+/g, 'x');
    expect(screenOf(path)?.screen.path).toBe(screen.path);
  }
  const keys = navigation.map((screen) => screen.nav.key);
  expect(new Set(keys).size).toBe(keys.length);
  expect(screenOf('/no/such/page/at/all')).toBeNull();
});

test('a page belongs to the entry above it, and everything is not the overview', () => {
  const entry = (path: string) => navigation.find((screen) => screen.path === path)!;
  expect(isWithin(entry('/events'), '/events/x')).toBe(true);
  expect(isWithin(entry('/events'), '/eventsx')).toBe(false);
  expect(isWithin(entry('/'), '/events')).toBe(false);
});
