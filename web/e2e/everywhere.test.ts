/** Every screen: readable by all, in both themes, on a phone; and nothing that users wrote is run. */
import type { Page } from '@playwright/test';

import { expect, expectAccessible, logInAs, test } from './fixtures';
import type { Server } from './server';

/** Would run in HTML, in an attribute, in a script, and as a link. */
const HOSTILE = `"><img src=x onerror=window.hit=1><script>window.hit=1</script>'\${window.hit=1}javascript:window.hit=1//`;

const FAILS = `export default async function (payload, context) {
  console.log(${JSON.stringify(HOSTILE)}, payload);
  await sdk.kv.set('last', payload);
  if (payload.fails) throw new Error(${JSON.stringify(HOSTILE)});
  sdk.events.emit('audit.seen', payload, { subject: ${JSON.stringify(HOSTILE)} });
  return payload;
}
`;

interface Stored {
  event: string;
  script: string;
  subscription: string;
  letter: string;
  run: string;
}

/** Something hostile in every field that takes text. */
async function store(server: Server): Promise<Stored> {
  await server.api('POST', 'tokens', { name: HOSTILE, role: 'viewer' });
  const made = await server.handle(HOSTILE.slice(0, 90), 'order.*', FAILS, { filter: `$.text != ${JSON.stringify('<b>')}`, retry_policy: { max_attempts: 1 } });
  await server.api('PATCH', `scripts/${made.script}`, { description: HOSTILE, source: `${FAILS}// ${HOSTILE}\n`, note: HOSTILE });
  await server.api('PUT', 'secrets/hook', { value: 'hush-hush-hush' });
  await server.api('POST', 'hooks', { name: 'door', preset: 'hmac', secrets: ['hook'], subject: `{$.text}` });
  const event = await server.emit('order.placed', { text: HOSTILE, [HOSTILE]: [HOSTILE], fails: true }, { subject: HOSTILE, source: `/${HOSTILE}` });
  // Taken by nobody: the overview lists its type.
  await server.emit('nobody.listens', { text: HOSTILE }, { subject: HOSTILE });
  await server.emit('order.placed', { text: HOSTILE });
  await server.until('dead-letters/count', (answer) => answer.count === 1);
  const runs = await server.until('runs', (answer) => answer.items.length === 2);
  const letters = await server.api('GET', 'dead-letters');
  return { event, ...made, letter: letters.items[0].id, run: runs.items[0].id };
}

function screensOf({ event, script, subscription, letter, run }: Stored): string[] {
  const settings = ['tokens', 'secrets', 'hooks', 'kv', 'configuration', 'storage', 'audit', 'about'].map((section) => `/settings/${section}`);
  return [
    '/',
    '/events?type=**',
    `/events/${event}`,
    '/scripts',
    '/scripts/new',
    `/scripts/${script}`,
    `/scripts/${script}?drain=1&letter=${letter}`,
    '/subscriptions',
    '/subscriptions/new',
    `/subscriptions/${subscription}`,
    '/dead-letters',
    `/dead-letters/${letter}`,
    '/runs',
    `/runs/${run}`,
    '/delayed',
    '/supervision',
    ...settings,
  ];
}

/** What makes the page wider than the window, and tabs that are selected out of sight; run in the page. */
function sticksOut(): string[] {
  const hidden = [...document.querySelectorAll('[role=tab][aria-selected=true]')].filter((tab) => tab.getBoundingClientRect().right > innerWidth);
  if (hidden.length > 0) return hidden.map((tab) => `the tab ${tab.textContent?.trim()} is out of sight`);
  const { scrollWidth, clientWidth } = document.documentElement;
  const tables = [...document.querySelectorAll('[role=table]')].filter((table) => table.scrollWidth > table.clientWidth);
  if (tables.length > 0) return tables.map((table) => `the table ${table.getAttribute('aria-label')}: ${table.scrollWidth} in ${table.clientWidth}`);
  if (scrollWidth <= clientWidth) return [];
  const wide = [...document.querySelectorAll('main *')].filter((one) => one.getBoundingClientRect().right > clientWidth + 1);
  const named = (one: Element) => `${one.tagName.toLowerCase()}.${one.className} ${Math.round(one.getBoundingClientRect().right)}`;
  return [`${scrollWidth} in ${clientWidth}: ${wide.slice(0, 6).map(named).join(' > ')}`];
}

async function settled(page: Page): Promise<void> {
  await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
  await expect(page.locator('[aria-busy="true"]')).toHaveCount(0);
}

/** What changes something. */
const DEEDS = /^(Add|Backfill|Change|Delete|Discard|Do it|Edit|Fix|Make|New|Pause|Put|Remove|Replay|Restart|Restore|Resume|Revoke|Run|Save|Send|Set|Subscribe|Use)\b/;

test.describe.configure({ timeout: 300_000 });

for (const theme of ['light', 'dark'] as const) {
  test(`every screen is accessible, ${theme}, and shows hostile text as text`, async ({ page, server }) => {
    const stored = await store(server);
    await page.emulateMedia({ colorScheme: theme });
    for (const screen of screensOf(stored)) {
      await test.step(screen, async () => {
        await page.goto(`${server.url}${screen}`);
        await settled(page);
        await expectAccessible(page, { soft: true });
        expect(await page.evaluate(() => 'hit' in window)).toBe(false);
      });
    }
    await page.goto(`${server.url}/dead-letters/${stored.letter}`);
    await expect(page.getByRole('heading', { level: 1 })).toContainText('<img src=x onerror=window.hit=1>');
  });
}

test('no screen scrolls sideways on a phone', async ({ page, server }) => {
  const stored = await store(server);
  await page.setViewportSize({ width: 375, height: 740 });
  const wide: string[] = [];
  for (const screen of screensOf(stored)) {
    await page.goto(`${server.url}${screen}`);
    await settled(page);
    wide.push(...(await page.evaluate(sticksOut)).map((one) => `${screen}: ${one}`));
  }
  expect(wide).toEqual([]);
});

for (const role of ['viewer', 'editor'] as const) {
  test(`nothing that a ${role} sees is refused, and nothing dead is offered`, async ({ page, server }) => {
    const stored = await store(server);
    const refused: string[] = [];
    page.on('response', (response) => response.status() === 403 && refused.push(response.url()));
    await logInAs(page, server, role);
    for (const screen of screensOf(stored)) {
      await page.goto(`${server.url}${screen}`);
      await settled(page);
      if (role === 'viewer') await expect(page.getByRole('main').getByRole('button', { name: DEEDS }), screen).toHaveCount(0);
    }
    expect(refused).toEqual([]);
    await page.goto(`${server.url}/settings`);
    await expect(page.getByRole('tab', { name: 'Secrets' })).toHaveCount(0);
  });
}

test('a reload keeps what is looked at', async ({ page, server }) => {
  const { event } = await store(server);
  for (const view of ['/events?type=order.*&filter=%24.fails', '/dead-letters?text=img&status=dead', '/runs?outcome=failed', '/subscriptions?state=active', '/settings/storage', '/?minutes=1440', `/events/${event}?show=raw`, '/supervision?order=cpu']) {
    await page.goto(`${server.url}${view}`);
    await settled(page);
    const before = [page.url(), await page.getByRole('heading', { level: 1 }).textContent()];
    await page.reload();
    await settled(page);
    expect([page.url(), await page.getByRole('heading', { level: 1 }).textContent()]).toEqual(before);
  }
});

test('nothing but the style sheet holds the first view back', async ({ page, server }) => {
  await store(server);
  await page.goto(server.url);
  await expect(page.getByRole('region', { name: 'Now' })).toBeVisible();
  const blocking = await page.evaluate(() =>
    (performance.getEntriesByType('resource') as PerformanceResourceTiming[]).filter((one) => (one as { renderBlockingStatus?: string }).renderBlockingStatus === 'blocking' && !one.name.endsWith('.css')).map((one) => one.name),
  );
  expect(blocking).toEqual([]);
});
