import { createServer, request, type Server as Proxy } from 'node:http';

import { expect, expectAccessible, logIn, test } from './fixtures';

test('an actor is found, looked at, paused and restarted', async ({ page, server }) => {
  await server.handle('worker', 'job.*', 'export default () => 1');
  await page.goto(`${server.url}/supervision`);
  await page.getByLabel('Find an actor').fill('worker');
  const row = page.getByRole('row', { name: /worker/ });
  await expect(row).toBeVisible();
  await expect(page.getByText(/A crash restarts the one that crashed/)).toBeVisible();
  await expectAccessible(page);
  await row.click();
  const drawer = page.getByRole('dialog', { name: 'worker' });
  await expect(drawer.getByText('no run has ended since the start')).toBeVisible();
  await drawer.getByRole('button', { name: 'Pause' }).click();
  await expect(drawer.getByText('paused')).toBeVisible();
  await drawer.getByRole('button', { name: 'Resume' }).click();
  await expect(drawer.getByText('running')).toBeVisible();
  await expectAccessible(page);
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Restart worker' }).click();
  await expect(page.getByText('worker starts anew')).toBeVisible();
  const { id } = await server.api('POST', 'tokens', { name: 'ci-bot', role: 'editor' });
  await server.api('DELETE', `tokens/${id}`);
  await page.goto(`${server.url}/settings/audit`);
  await expect(page.getByRole('row', { name: /restarted actor/ })).toBeVisible();
  // By its name, though it is revoked; the id is there for whoever rests on it.
  await expect(page.getByRole('row', { name: /revoked token ci-bot/ }).getByTitle(id)).toBeVisible();
});

test('actors sort as a top, and stay in their places under the pointer', async ({ page, server }) => {
  await server.handle('idle', 'never.*', 'export default () => 1');
  await server.handle('busy', 'job.*', 'export default () => { for (let n = 0; n < 2e6; n += 1); return 1 }');
  await page.goto(`${server.url}/supervision?order=cpu`);
  const names = page.getByRole('table', { name: 'Actors' }).getByRole('row');
  const idle = page.getByRole('row', { name: /idle/ });
  await idle.hover();
  const before = await names.allInnerTexts();
  await server.api('POST', 'events', Array.from({ length: 50 }, () => ({ type: 'job.due', data: {} })));
  await expect(page.getByRole('row', { name: /busy.*[1-9]\d*%/ })).toBeVisible();
  const place = (texts: string[], name: string): number => texts.findIndex((text) => text.includes(name));
  expect(place(await names.allInnerTexts(), 'idle')).toBe(place(before, 'idle'));
  await page.getByRole('heading', { level: 1 }).hover();
  await expect.poll(async () => place(await names.allInnerTexts(), 'busy')).toBeLessThan(4);
});

test('a token is shown once, works, and ends when it is revoked', async ({ page, server }) => {
  await page.goto(`${server.url}/settings/tokens`);
  await page.getByRole('button', { name: 'New token' }).click();
  await page.getByLabel('Name').fill('shop');
  await page.getByLabel('Life').selectOption('Ends in 30 days');
  await page.getByLabel('At most, requests per second').fill('50');
  await expectAccessible(page);
  await page.getByRole('button', { name: 'Make the token' }).click();
  const secret = (await page.getByRole('region', { name: 'the token' }).innerText()).trim();
  await server.api('POST', 'events', { type: 'shop.open', data: {} }, secret);
  await page.getByRole('button', { name: 'I have copied it' }).click();
  await expect(page.getByRole('row', { name: /shop/ })).toContainText('50/s');
  await expect(page.getByText(secret)).toHaveCount(0);

  await page.getByRole('button', { name: 'Revoke shop' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await expect(page.getByText('shop opens nothing any more')).toBeVisible();
  await expect(server.api('POST', 'events', { type: 'shop.open', data: {} }, secret)).rejects.toThrow('401');
});

test('settings say where they come from, and the store what it holds', async ({ page, server }) => {
  await server.emit('a.b', {});
  await page.goto(`${server.url}/settings/configuration`);
  await page.getByLabel('Find a setting').fill('listen');
  await expect(page.getByRole('row', { name: /server.listen/ })).toContainText('TRIPLINE_SERVER__LISTEN');
  await page.getByRole('tab', { name: 'Storage' }).click();
  await expect(page.getByRole('row', { name: /^events/ })).toBeVisible();
  await expectAccessible(page);
  await page.getByRole('tab', { name: 'About' }).click();
  await expect(page.getByText(/Tripline \d/)).toBeVisible();
  await page.getByLabel('Times', { exact: true }).selectOption('UTC');
  await expect(page.getByText(/UTC,/)).toBeVisible();
  await expectAccessible(page);
});

test('copying works on plain HTTP under a name of the network', async ({ browser, server }) => {
  // Not localhost: the browser hides its clipboard here, as it does for every plain HTTP host.
  const page = await (await browser.newContext()).newPage();
  const uid = await server.emit('copy.me', {});
  await page.goto(`${server.url.replace('127.0.0.1', 'tripline.test')}/events/${uid}`);
  expect(await page.evaluate(() => window.isSecureContext)).toBe(false);
  await page.getByLabel('Token').fill(server.token);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('button', { name: 'Copy uid' }).click();
  await expect(page.getByRole('status').getByText('Copied')).toBeAttached();
  await page.keyboard.press('Control+k');
  await page.keyboard.press('Control+v');
  await expect(page.getByRole('combobox')).toHaveValue(uid);
});

test.describe('below a path prefix that only a proxy knows', () => {
  let proxy: Proxy;

  test.afterEach(() => void proxy.close());

  test('pages, files, links and the live feed work', async ({ page, server }) => {
    const target = new URL(server.url);
    proxy = createServer((incoming, outgoing) => {
      const path = incoming.url?.replace(/^\/tools\/tripline/, '') ?? '/';
      const onward = request({ host: target.hostname, port: target.port, path, method: incoming.method, headers: incoming.headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(outgoing);
      });
      incoming.pipe(onward);
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const address = proxy.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const url = `http://127.0.0.1:${address.port}/tools/tripline`;
    const uid = await server.emit('deep.link', {});

    const own = await page.context().browser()!.newContext();
    const visitor = await own.newPage();
    const complaints: string[] = [];
    visitor.on('console', (message) => message.type() === 'error' && complaints.push(`${message.text()} ${message.location().url}`));
    await logIn(visitor, { ...server, url } as never, server.token);
    await visitor.goto(`${url}/events/${uid}`);
    await expect(visitor.getByRole('heading', { level: 1 })).toHaveText('deep.link');
    await expect(visitor.getByText('Live', { exact: true })).toBeVisible();
    await visitor.getByRole('link', { name: 'Supervision' }).click();
    await expect(visitor).toHaveURL(`${url}/supervision`);
    await visitor.reload();
    await expect(visitor.getByRole('row', { name: /journal/ })).toBeVisible();
    expect(complaints).toEqual([]);
    await own.close();
  });
});

test('keys that a script kept are read, changed, removed and brought back', async ({ page, server }) => {
  await server.handle('counter', 'count.*', "export default async () => { await sdk.kv.set('state/total', { n: 9007199254740991 }); }");
  await server.emit('count.one', {});
  await server.until('kv', (answer) => answer.items.length === 1);
  await page.goto(`${server.url}/settings/kv`);
  await page.getByRole('row', { name: /state\/total/ }).click();
  const drawer = page.getByRole('dialog', { name: 'state/total' });
  await drawer.getByLabel('Value, as JSON').fill('{"n": 9007199254740993,');
  await expect(drawer.getByRole('button', { name: 'Set' })).toBeDisabled();
  await drawer.getByLabel('Value, as JSON').fill('{"n": 9007199254740993}');
  await expectAccessible(page);
  await drawer.getByRole('button', { name: 'Set' }).click();
  await expect(page.getByRole('row', { name: /9007199254740993/ })).toBeVisible();

  await page.getByRole('row', { name: /state\/total/ }).click();
  await page.getByRole('button', { name: 'Remove' }).click();
  await expect(page.getByText('No script has kept a key yet').or(page.getByText('No key begins so'))).toBeVisible();
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect(page.getByRole('row', { name: /9007199254740993/ })).toBeVisible();
});

test('a secret is set and never shown', async ({ page, server }) => {
  await page.goto(`${server.url}/settings/secrets`);
  await page.getByRole('button', { name: 'New secret' }).click();
  await page.getByLabel('Name').fill('stripe_key');
  await page.getByLabel('Value').fill('sk_live_12345678');
  await expectAccessible(page);
  await page.getByRole('button', { name: 'Set', exact: true }).click();
  await expect(page.getByRole('row', { name: /stripe_key/ })).toBeVisible();
  expect(await page.content()).not.toContain('sk_live');
  await page.getByRole('button', { name: 'Remove stripe_key' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await expect(page.getByText('No secrets yet')).toBeVisible();
});

test('an event that was emitted for later is seen and cancelled', async ({ page, server }) => {
  await server.handle('reminds', 'order.placed', `export default async (o) => { await sdk.events.emit('order.reminder', { n: o.n }, { delay: '2d' }); }`);
  await server.emit('order.placed', { n: 7 });
  await page.goto(`${server.url}/delayed`);
  const row = page.getByRole('row', { name: /order\.reminder/ });
  await row.click();
  await page.reload();
  const dialog = page.getByRole('dialog', { name: 'order.reminder' });
  await expect(dialog.getByText('7', { exact: true })).toBeVisible();
  await expectAccessible(page);
  await dialog.getByRole('button', { name: 'Cancel it for good' }).click();
  await expect(page.getByText('Nothing is delayed')).toBeVisible();
});
