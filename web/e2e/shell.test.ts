import { expect, expectAccessible, logIn, logInAs, test } from './fixtures';

test('the printed link logs in once, and leaves no code behind', async ({ browser, server }) => {
  const page = await (await browser.newContext()).newPage();
  await page.goto(server.loginLink);
  await expect(page.getByRole('navigation', { name: 'Screens' })).toBeVisible();
  expect(page.url()).not.toContain('code');

  const other = await (await browser.newContext()).newPage();
  await other.goto(server.loginLink);
  await expect(other.getByText('This login link was used already')).toBeVisible();
});

test('the link works in a page that is open already', async ({ browser, server }) => {
  const page = await (await browser.newContext()).newPage();
  const complaints: string[] = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  await page.goto(server.url);
  await expect(page.getByLabel('Token')).toBeVisible();
  expect(complaints, 'whoever is not logged in sees no error').toEqual([]);
  await page.goto(server.loginLink);
  await expect(page.getByRole('navigation', { name: 'Screens' })).toBeVisible();
  expect(page.url()).not.toContain('code');
});

test('a token logs in, a wrong one is refused in words, and logging out ends it', async ({ browser, server }) => {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${server.url}/events?type=a.**`);
  await page.getByLabel('Token').fill('trl_wrong');
  await page.getByRole('button', { name: 'Log in' }).click();
  await expect(page.getByText('This token does not open the dashboard')).toBeVisible();
  await expectAccessible(page);

  await page.getByLabel('Token').fill(server.token);
  await page.getByRole('button', { name: 'Log in' }).click();
  await expect(page.getByRole('heading', { name: 'Events', level: 1 })).toBeVisible();
  expect(page.url()).toContain('/events?type=a.**');

  const [cookie] = await page.context().cookies();
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'Strict' });
  expect(await page.evaluate(() => [document.cookie, ...Object.values(localStorage), ...Object.values(sessionStorage)].join())).not.toContain(server.token);

  await page.getByRole('button', { name: 'Log out' }).click();
  await expect(page.getByLabel('Token')).toBeVisible();
  await page.reload();
  await expect(page.getByLabel('Token')).toBeVisible();
});

test('keys reach every screen, and a reload keeps the place', async ({ page, server }) => {
  await page.goto(server.url);
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Overview');
  await page.keyboard.press('g');
  await page.keyboard.press('v');
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Supervision');
  await page.keyboard.press('Control+k');
  await page.keyboard.type('sett');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Settings');
  await page.reload();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Settings');
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Keyboard shortcuts' })).toBeVisible();
  await page.keyboard.press('Escape');
  await page.goBack();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Supervision');
});

test('the palette offers what the page does, wherever it shows it, and only to whom it may', async ({ page, server }) => {
  const { script, subscription } = await server.handle('one', 'order.*', 'export default (order) => order.n');
  const uid = await server.emit('order.placed', { n: 7 });
  const runs = await server.until('runs', (answer) => answer.items.length === 1);
  const palette = page.getByRole('listbox', { name: 'Found' });
  const choose = async (text: string, label: string): Promise<void> => {
    await page.keyboard.press('Control+k');
    await page.keyboard.type(text);
    await expect(palette.getByRole('option', { selected: true })).toContainText(label);
    await page.keyboard.press('Enter');
  };

  await page.goto(`${server.url}/scripts/${script}`);
  await page.getByLabel('Uid of the event').waitFor();
  await choose('run the', 'Run the test');
  await expect(page.getByRole('heading', { name: 'Result' })).toBeVisible();
  await choose('subscribe', 'Subscribe this script to events');
  await expect(page.getByRole('dialog', { name: 'New subscription' })).toBeVisible();
  // What is behind the dialog is out of reach.
  await page.keyboard.press('Control+k');
  await expect(palette.getByRole('option', { name: 'Overview' })).toBeVisible();
  await expect(palette.getByRole('option', { name: 'Run the test' })).toHaveCount(0);

  await page.goto(`${server.url}/runs/${runs.items[0].id}`);
  await expect(page.getByRole('link', { name: 'order.placed' })).toBeVisible();
  await choose('its event', 'Open its event');
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('order.placed');
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await choose('copy', 'Copy the uid');
  await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toBe(uid);

  await page.goto(`${server.url}/subscriptions/${subscription}`);
  await expect(page.getByRole('button', { name: 'Pause' })).toBeVisible();
  await choose('pause', 'Pause');
  await expect(page.getByText('paused', { exact: true })).toBeVisible();
  await logInAs(page, server, 'viewer');
  await page.reload();
  await expect(page.getByText('paused', { exact: true })).toBeVisible();
  await page.keyboard.press('Control+k');
  await expect(palette.getByRole('option', { name: 'Overview' })).toBeVisible();
  await expect(palette.getByRole('option', { name: /Resume|Backfill|New script/ })).toHaveCount(0);
});

test('a long name pushes nobody out of reach of logging out', async ({ page, server }) => {
  const { secret } = await server.api('POST', 'tokens', { name: 'grafana-embedding-of-the-operations-team', role: 'viewer' });
  await logIn(page, server, secret);
  await page.goto(server.url);
  const [leave, main] = [await page.getByRole('button', { name: 'Log out' }).boundingBox(), await page.locator('main').boundingBox()];
  expect(leave!.x + leave!.width).toBeLessThan(main!.x);
});

test('a viewer is told so, and an unknown page is one', async ({ page, server }) => {
  await logInAs(page, server, 'viewer');
  await page.goto(`${server.url}/nowhere/at/all`);
  await expect(page.getByText('There is no such page')).toBeVisible();
  await expect(page.getByTitle('viewer (viewer)')).toBeVisible();
});

test.describe('when the server restarts', () => {
  test.use({ allow: [/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/] });

  test('the line says it is down, and comes back by itself', async ({ page, server }) => {
    await page.goto(server.url);
    await expect(page.getByText('Live', { exact: true })).toBeVisible();
    await server.stop();
    await expect(page.getByText(/Line is down/)).toBeVisible();
    await server.launch();
    await expect(page.getByText('Live', { exact: true })).toBeVisible({ timeout: 30_000 });
  });

  test('what happened meanwhile and afterwards shows without a reload', async ({ page, server }) => {
    await server.emit('before.it', {});
    await page.goto(`${server.url}/events`);
    await expect(page.getByRole('link', { name: 'before.it' })).toBeVisible();
    await page.evaluate(() => Object.assign(window, { isSamePage: true }));
    await server.stop();
    await expect(page.getByText(/Line is down/)).toBeVisible();
    await server.launch();
    // Before the page looks again: it has not heard of this one.
    await server.emit('between.it', {});
    await expect(page.getByRole('link', { name: 'between.it' })).toBeVisible({ timeout: 30_000 });
    await server.emit('after.it', {});
    await expect(page.getByRole('link', { name: 'after.it' })).toBeVisible();
    expect(await page.evaluate(() => 'isSamePage' in window)).toBe(true);
  });
});

test('times are absolute on hover, in local time or in UTC', async ({ page, server }) => {
  await server.emit('a.b', {});
  await page.goto(`${server.url}/events`);
  const time = page.getByRole('row', { name: /a\.b/ }).getByRole('time');
  await expect(time).toHaveAttribute('title', /\+0[12]:00$/);
  await page.keyboard.press('z');
  await expect(time).toHaveAttribute('title', / UTC$/);
  await page.reload();
  await expect(time).toHaveAttribute('title', / UTC$/);
  await page.getByRole('button', { name: 'Times: UTC' }).click();
  await expect(time).toHaveAttribute('title', /\+0[12]:00$/);
});

test('the first view takes the browser less than half a second of work', async ({ page, server }) => {
  await server.emit('a.b', {});
  await page.goto(server.url);
  await expect(page.getByRole('region', { name: 'Now' })).toBeVisible();
  // In CPU time, with nothing from a cache: by the clock it would be the others' doing on a busy machine.
  const session = await page.context().newCDPSession(page);
  await session.send('Network.setCacheDisabled', { cacheDisabled: true });
  await session.send('Performance.enable', { timeDomain: 'threadTicks' });
  const busy = async (): Promise<number> => (await session.send('Performance.getMetrics')).metrics.find((one) => one.name === 'TaskDuration')?.value ?? 0;
  const before = await busy();
  await page.reload({ waitUntil: 'commit' });
  await page.getByRole('region', { name: 'Now' }).waitFor();
  expect((await busy()) - before).toBeLessThan(0.5);
});

test('the first view asks for little, and nothing of the editor', async ({ page, server }) => {
  const scripts: Promise<number>[] = [];
  page.on('response', (response) => {
    if (response.url().endsWith('.js')) scripts.push(response.request().sizes().then((sizes) => sizes.responseBodySize));
  });
  await server.emit('a.b', {});
  await page.goto(server.url);
  await expect(page.getByRole('region', { name: 'Now' })).toBeVisible();
  const bytes = (await Promise.all(scripts)).reduce((sum, one) => sum + one, 0);
  expect(bytes).toBeLessThan(150_000);
});
