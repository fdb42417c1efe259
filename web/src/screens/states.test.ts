/** Every list: what it shows while it reads, when there is nothing, when it may not, and the role's part. */
import { render, screen } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import type { Component } from 'svelte';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { session } from '../api/session.svelte';
import type { Role } from '../api/schema';
import Stage from '../testing/Stage.svelte';
import DeadLetters from './dead-letters/DeadLetters.svelte';
import Delayed from './delayed/Delayed.svelte';
import Events from './events/Events.svelte';
import Overview from './overview/Overview.svelte';
import Run from './runs/Run.svelte';
import Runs from './runs/Runs.svelte';
import Scripts from './scripts/Scripts.svelte';
import Audit from './settings/Audit.svelte';
import Configuration from './settings/Configuration.svelte';
import Hooks from './settings/Hooks.svelte';
import Kv from './settings/Kv.svelte';
import Secrets from './settings/Secrets.svelte';
import Storage from './settings/Storage.svelte';
import Tokens from './settings/Tokens.svelte';
import Subscriptions from './subscriptions/Subscriptions.svelte';
import Supervision from './supervision/Supervision.svelte';

type Answer = (path: string) => Response | Promise<Response>;

function json(body: unknown, status = 200): Response {
  const type = status < 400 ? 'application/json' : 'application/problem+json';
  return new Response(JSON.stringify(body), { status, headers: { 'content-type': type } });
}

/** What a server answers that has nothing yet. */
const nothing: Answer = (path) => json(path.endsWith('/count') ? { count: 0 } : { items: [], next: null });
const refusal: Answer = () => json({ type: '', title: 'Not for you', status: 403, code: 'forbidden', detail: 'this needs another role', request_id: 'r-17' }, 403);
const silence: Answer = () => new Promise(() => {});

function answers(answer: Answer) {
  return vi.spyOn(globalThis, 'fetch').mockImplementation((input) => Promise.resolve(answer(new URL(String(input)).pathname)));
}

function as(role: Role): void {
  session.who = { name: role, role, expires_at: null } as never;
}

beforeEach(() => as('admin'));
afterEach(() => void (session.who = undefined));

interface Case {
  Screen: Component<any>;
  props?: Record<string, unknown>;
  /** Absent: it is never empty. */
  empty?: string;
}

const SCREENS: Record<string, Case> = {
  overview: { Screen: Overview },
  events: { Screen: Events, empty: 'No events yet' },
  scripts: { Screen: Scripts, empty: 'No scripts yet' },
  subscriptions: { Screen: Subscriptions, empty: 'No subscriptions yet' },
  'dead letters': { Screen: DeadLetters, empty: 'Nothing is dead' },
  runs: { Screen: Runs, empty: 'Nothing has run yet' },
  run: { Screen: Run, props: { id: 'r' } },
  delayed: { Screen: Delayed, empty: 'Nothing is delayed' },
  supervision: { Screen: Supervision },
  tokens: { Screen: Tokens },
  secrets: { Screen: Secrets, empty: 'No secrets yet' },
  webhooks: { Screen: Hooks, empty: 'No webhooks yet' },
  keys: { Screen: Kv, empty: 'No script has kept a key yet' },
  configuration: { Screen: Configuration },
  storage: { Screen: Storage },
  audit: { Screen: Audit, empty: 'Nobody has changed anything yet' },
};

describe.each(Object.entries(SCREENS))('%s', (_, { Screen, props, empty }) => {
  test('is a skeleton while it reads', () => {
    answers(silence);
    const { container } = render(Stage, { props: { Screen, given: props } });
    expect(container.querySelector('.skeleton[role=status]')).not.toBeNull();
    expect(screen.queryByRole('alert')).toBeNull();
  });

  test('says what was refused and for which request, and tries again when asked', async () => {
    const fetch = answers(refusal);
    render(Stage, { props: { Screen, given: props } });
    expect((await screen.findAllByRole('alert'))[0]).toHaveTextContent(/Not for you.*this needs another role.*r-17/s);
    const asked = fetch.mock.calls.length;
    await userEvent.click(screen.getAllByRole('button', { name: 'Try again' })[0]!);
    await vi.waitFor(() => expect(fetch.mock.calls.length).toBeGreaterThan(asked));
  });

  // A screen that is never empty has nothing to say of it.
  if (empty)
    test('says what would be there', async () => {
      answers(nothing);
      render(Stage, { props: { Screen, given: props } });
      expect(await screen.findByText(empty)).toBeInTheDocument();
      expect(screen.queryByRole('alert')).toBeNull();
    });
});

test.each([
  [Scripts, 'Write the first one'],
  [Subscriptions, 'Make the first one'],
  [Hooks, 'New webhook'],
] as [Component<any>, string][])('what a viewer may not do is not offered', async (Screen, button) => {
  answers(nothing);
  const { unmount } = render(Stage, { props: { Screen } });
  expect((await screen.findAllByText(button)).length).toBeGreaterThan(0);
  unmount();
  as('viewer');
  render(Stage, { props: { Screen } });
  await screen.findByText(/^No .* yet$/);
  expect(screen.queryByText(button)).toBeNull();
});

test('supervision shows the clock of a crashed actor, its restarts and why it crashed', async () => {
  const actor = (more: object) => ({ kind: 'SubscriptionActor', state: 'running', mailbox: 3, restarts: 0, restarts_in_window: 0, restart_at: null, restartable: true, cpu_ms: 0, memory_bytes: 2_048, children: [], ...more });
  const crashed = actor({
    id: 'b',
    name: 'broken',
    state: 'restarting',
    restarts: 7,
    restarts_in_window: 2,
    restart_at: new Date(Date.now() + 90_000).toISOString(),
    last_crash: { at: new Date().toISOString(), message: 'the lane was killed: 2.1 s of CPU' },
  });
  answers((path) => json(path.endsWith('/actors') ? { tree: actor({ id: 'r', name: 'tripline', kind: 'runtime', children: [crashed] }) } : { items: [] }));
  render(Stage, { props: { Screen: Supervision } });
  const row = await screen.findByRole('row', { name: /broken/ });
  expect(row).toHaveTextContent(/restarting.*in 1m.*3.*2\.0 KiB.*2 \/ 7.*the lane was killed: 2\.1 s of CPU/s);
});
