import { expect, expectAccessible, test } from './fixtures';
import { FRAMES, scrollThrough } from './scrolling';
import type { Server } from './server';

const XSS = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;

async function seed(server: Server): Promise<void> {
  await server.handle('book', 'finance.*', "export default async (p) => { await sdk.events.emit('ledger.booked', p) }", {
    filter: '$.amount > 100 && $.currency == "EUR"',
  });
  await server.handle('refund', 'finance.Refunded', 'export default () => 1');
}

test('events come in by themselves, and stand still when frozen', async ({ page, server }) => {
  await server.emit('first.one', {});
  await page.goto(`${server.url}/events`);
  await expect(page.getByRole('link', { name: 'first.one' })).toBeVisible();
  await server.emit('second.one', {});
  await expect(page.getByRole('link', { name: 'second.one' })).toBeVisible();

  await page.getByRole('button', { name: 'Freeze' }).click();
  await server.emit('third.one', {});
  await expect(page.getByText('1 new event since you froze the list')).toBeVisible();
  await expect(page.getByRole('link', { name: 'third.one' })).toHaveCount(0);
  await page.getByRole('button', { name: 'Follow' }).click();
  await expect(page.getByRole('link', { name: 'third.one' })).toBeVisible();
});

test('nothing moves under the pointer', async ({ page, server }) => {
  await server.emit('first.one', {});
  await page.goto(`${server.url}/events`);
  await page.getByRole('link', { name: 'first.one' }).hover();
  await server.emit('second.one', {});
  await expect(page.getByText('1 new event while the pointer rests on the list')).toBeVisible();
  await expect(page.getByRole('link', { name: 'second.one' })).toHaveCount(0);
  await page.getByRole('heading', { level: 1 }).hover();
  await expect(page.getByRole('link', { name: 'second.one' })).toBeVisible();
});

test.describe('a wrong filter', () => {
  test.use({ allow: [/422/] });

  test('is shown at its column, and the search outlives a reload', async ({ page, server }) => {
    await seed(server);
    await server.emit('finance.Paid', { amount: 500, currency: 'EUR' }, { subject: '007' });
    await server.emit('finance.Paid', { amount: 5, currency: 'EUR' });
    await page.goto(`${server.url}/events`);
    const filter = page.getByLabel('Filter expression');
    await filter.fill('$.amount > = 100');
    await expect(page.getByRole('alert')).toContainText('Column 12');
    await filter.fill('$.amount >= 100');
    await expect(page.getByText('2 events shown')).toBeVisible();
    await page.getByLabel('Subject').fill('007');
    await expect(page.getByText('1 event shown')).toBeVisible();
    await page.reload();
    await expect(page.getByText('1 event shown')).toBeVisible();
    await expect(filter).toHaveValue('$.amount >= 100');
    expect(new URL(page.url()).searchParams.get('subject')).toBe('007');
    await page.getByRole('button', { name: 'Clear' }).click();
    await expect(page.getByText('3 events shown')).toBeVisible();
  });
});

test('why not, what it led to, and where to go from there', async ({ page, server }) => {
  await seed(server);
  const taken = await server.emit('finance.Paid', { amount: 500, currency: 'EUR', exact: 1 });
  const left = await server.emit('finance.Paid', { amount: 500, currency: 'USD' });
  await server.until(`events/${taken}`, (event) => event.effects.length === 1);

  await page.goto(server.url);
  await page.getByRole('region', { name: 'Taken by nobody' }).getByRole('link', { name: 'finance.Paid' }).click();
  await expect(page.getByRole('switch', { name: 'Unmatched' })).toBeChecked();
  await page.getByRole('row', { name: /finance.Paid/ }).click();
  await expect(page).toHaveURL(new RegExp(left));
  await expect(page.getByText('$.currency == "EUR"')).toBeVisible();
  await expect(page.getByText('it saw "USD"')).toBeVisible();
  await expect(page.getByText('event.type is finance.Refunded')).toHaveCount(0);
  await page.getByText('1 subscription listens to other types, nearly this one').click();
  await expect(page.getByRole('link', { name: 'refund' })).toBeVisible();
  await expectAccessible(page);

  await page.goto(`${server.url}/events/${taken}`);
  await expect(page.getByText('succeeded')).toBeVisible();
  await page.getByRole('link', { name: 'ledger.booked' }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('ledger.booked');
  await expect(page.getByText('emitted by book')).toBeVisible();
  const make = page.getByRole('link', { name: 'Make a subscription' });
  await expect(make).toHaveAttribute('href', /\/subscriptions\/new\?type=ledger\.booked&event=/);
});

test('digits are shown as they were published', async ({ page, server }) => {
  const published = await server.api('POST', 'events', '{"type":"audit.id","data":{"id":9007199254740993,"price":1.10}}');
  await page.goto(`${server.url}/events/${published.ids[0]}`);
  await expect(page.getByText('9007199254740993')).toBeVisible();
  await expect(page.getByText('1.10', { exact: true })).toBeVisible();
  await page.getByRole('tab', { name: 'Raw' }).click();
  await expect(page.getByRole('region', { name: 'the payload' })).toContainText('"price": 1.10');
});

test('markup in every field is text', async ({ page, server }) => {
  await server.handle(XSS, 'evil.*', `export default () => { console.log(${JSON.stringify(XSS)}); throw new Error(${JSON.stringify(XSS)}) }`, {
    retry_policy: { max_attempts: 1 },
    filter: `$.x != "${'<b>'}"`,
  });
  const uid = await server.emit('evil.one', { [XSS]: XSS, x: '' }, { subject: XSS, source: `/${XSS}` });
  await server.until('dead-letters/count', (answer) => answer.count === 1);
  for (const path of ['/', '/events', `/events/${uid}`, '/supervision']) {
    await page.goto(server.url + path);
    await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
    await expect(page.getByText('img src=x').first()).toBeVisible();
    expect(await page.title()).not.toContain('owned');
  }
});

test('a payload that is erased is gone, and says so', async ({ page, server }) => {
  const uid = await server.emit('person.moved', { street: 'Canary Row 7' }, { subject: 'ada' });
  await page.goto(`${server.url}/events/${uid}`);
  await expect(page.getByText('Canary Row 7')).toBeVisible();
  await page.getByRole('button', { name: 'Erase' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Erase' }).click();
  await expect(page.getByText(/The payload was erased/)).toBeVisible();
  await expect(page.getByText('Canary Row 7')).toBeHidden();
  await expect(page.getByRole('button', { name: 'Erase' })).toBeHidden();
});

test('ten thousand events are read as they are scrolled to, and only those in sight are drawn', async ({ page, server }) => {
  for (let n = 0; n < 10; n += 1) {
    const batch = Array.from({ length: 1_000 }, (_, at) => ({ type: 'row.one', subject: `s${n * 1_000 + at}`, data: {} }));
    await server.api('POST', 'events', JSON.stringify(batch));
  }
  await page.goto(`${server.url}/events`);
  const table = page.getByRole('table', { name: 'Events' });
  await expect(async () => {
    await table.evaluate((box) => box.scrollTo(0, box.scrollHeight));
    await expect(page.getByRole('cell', { name: 's0', exact: true })).toBeVisible({ timeout: 100 });
  }).toPass({ intervals: [50], timeout: 60_000 });
  await expect(page.getByText('10,000 events shown')).toBeVisible();
  // In CPU time of the page's thread: a frame may come late on a machine that does other things too.
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable', { timeDomain: 'threadTicks' });
  const busy = async (): Promise<number> => (await session.send('Performance.getMetrics')).metrics.find((one) => one.name === 'TaskDuration')?.value ?? 0;
  const before = await busy();
  expect(await table.evaluate(scrollThrough, FRAMES)).toBeLessThan(60);
  expect(((await busy()) - before) / FRAMES, 'seconds of CPU a frame, with every row another one').toBeLessThan(0.02);
});

test('an event that retention removed says so', async ({ browser, server }) => {
  const page = await (await browser.newContext()).newPage();
  await page.request.post(`${server.url}/api/v1/session`, { data: { token: server.token } });
  await page.goto(`${server.url}/events/01a20a84-51e6-74bd-9d44-ca00000000ff`);
  await expect(page.getByText('This event is not stored')).toBeVisible();
});
