import { expect, expectAccessible, test } from './fixtures';

test.use({ allow: [/422/] });

test('limits are set and shown, a change is tried on stored events, past ones are delivered after their count', async ({ page, server }) => {
  for (let n = 0; n < 3; n += 1) await server.emit('order.placed', { n });
  const { subscription } = await server.handle('count', 'order.*', 'export default (order) => order.n');
  await page.goto(`${server.url}/subscriptions/${subscription}`);
  await page.getByLabel('Runs, at most').fill('0');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText(/a number from 1 to 10000/).first()).toBeVisible();
  await page.getByLabel('Runs, at most').fill('100');
  await page.getByLabel('In any').fill('1m');
  await page.getByLabel('Expires after').fill('1h');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText('is changed from the next event on')).toBeVisible();
  const saved = await server.api('GET', `subscriptions/${subscription}`);
  expect(saved.limits).toMatchObject({ rate_limit: { runs: 100, per: '1m' }, expires_after: '1h', cpu_ms: null });

  await page.getByLabel('Filter', { exact: true }).fill('$.n > 0');
  await page.getByRole('button', { name: 'What would this change have meant?' }).click();
  await expect(page.getByText('1 no longer taken')).toBeVisible();
  await expectAccessible(page);

  await page.getByRole('button', { name: 'Backfill' }).click();
  await page.goBack();
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await page.goto(`${server.url}/subscriptions/${subscription}?do=backfill`);
  const dialog = page.getByRole('dialog');
  // In the browser's zone, which is not this process's.
  const past = await page.evaluate(() => {
    const at = new Date(Date.now() - 30 * 60_000);
    return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  });
  await dialog.getByLabel('Accepted at this time or later').fill(past);
  await dialog.getByRole('button', { name: 'Count them' }).click();
  await expect(dialog.getByRole('status')).toContainText('3 of 3 stored events would be delivered');
  await expectAccessible(page);
  await dialog.getByRole('button', { name: 'Deliver 3' }).click();
  await server.until(`runs?subscription_id=${subscription}`, (answer) => answer.items.length === 3);
});

test('a subscription that is made from an event says whether it takes it, and where not', async ({ page, server }) => {
  const event = await server.emit('order.placed', { n: 3, currency: 'USD' }, { subject: 'o-3' });
  await page.goto(`${server.url}/events/${event}`);
  await page.getByRole('link', { name: 'Make a subscription' }).click();
  await expect(page.getByText('This event is of the type.')).toBeVisible();
  const filter = page.getByLabel('Filter', { exact: true });
  await filter.fill('$.n > 1 && $.currency == "EUR"');
  await expect(page.getByText('This event fails at column 12, $.currency == "EUR": it saw "USD"')).toBeVisible();
  await expectAccessible(page);
  await filter.fill('$.n > 1 && event.subject == "o-3"');
  await expect(page.getByText('This event would be taken.')).toBeVisible();
  await page.getByLabel('Event type or pattern').fill('order.paid');
  await expect(page.getByText('This event is of the type order.placed.')).toBeVisible();
});

test('the list keeps its rows under the pointer, and says since when it counts', async ({ page, server }) => {
  const { subscription } = await server.handle('one', 'job.*', 'export default () => 1');
  await page.goto(`${server.url}/subscriptions`);
  await expect(page.getByText(/Succeeded, failed and died are counted since the start of the process/)).toBeVisible();
  await page.getByRole('row', { name: /one/ }).hover();
  await server.handle('another', 'job.*', 'export default () => 1');
  await server.emit('job.due', {});
  await server.until(`runs?subscription_id=${subscription}`, (answer) => answer.items.length === 1);
  await expect(page.getByText('The list has changed, and waits while the pointer rests on it.')).toBeVisible();
  // Its numbers are those of now.
  await expect(page.getByRole('row', { name: /one/ }).getByRole('cell').nth(7)).toHaveText('1');
  await expect(page.getByRole('row', { name: /another/ })).toHaveCount(0);
  await page.getByRole('heading', { level: 1 }).hover();
  await expect(page.getByRole('row', { name: /another/ })).toBeVisible();
});

test('the last of 230 scripts is chosen by its name, with the keyboard alone', async ({ page, server }) => {
  const nameOf = (n: number): string => `script-${String(n).padStart(3, '0')}`;
  for (let n = 1; n <= 230; n += 1) await server.api('POST', 'scripts', { name: nameOf(n), source: 'export default () => 1', language: 'typescript' });
  await page.goto(`${server.url}/subscriptions/new`);
  await page.getByLabel('Name', { exact: true }).focus();
  await page.keyboard.type('late');
  await page.keyboard.press('Tab');
  const field = page.getByRole('combobox', { name: 'Script', exact: true });
  await expect(field).toBeFocused();
  await page.keyboard.press('ArrowDown');
  await expect(page.getByText('50 shown, there are more: type to narrow')).toBeVisible();
  await expectAccessible(page);
  await page.keyboard.press('End');
  await expect(page.getByRole('option', { name: nameOf(50) })).toBeInViewport();
  await page.keyboard.type('PT-23');
  await expect(page.getByRole('listbox').getByRole('option')).toHaveText([nameOf(230)]);
  await expectAccessible(page);
  await page.keyboard.press('Escape');
  await expect(field).toHaveValue('');
  await page.keyboard.type('230');
  await expect(page.getByRole('option', { name: nameOf(230), selected: true })).toBeVisible();
  await page.keyboard.press('Enter');
  await expect(field).toHaveValue(nameOf(230));
  await page.keyboard.press('Tab');
  await page.keyboard.type('job.*');
  await page.keyboard.press('Enter');
  await expect(page.getByText('late takes events from now on')).toBeVisible();
  const { items } = await server.api('GET', 'subscriptions');
  const script = await server.api('GET', `scripts/${items[0].script_id}`);
  expect([items.length, script.name]).toEqual([1, nameOf(230)]);

  // A link may name one that is not among the first.
  await page.goto(`${server.url}/runs?script_id=${script.id}`);
  await expect(field).toHaveValue(nameOf(230));
  await page.setViewportSize({ width: 375, height: 700 });
  await field.click();
  await page.getByRole('option', { name: 'Any script' }).click();
  await expect(page).not.toHaveURL(/script_id/);
  await expect(field).toHaveValue('');
  await expect(field).toHaveAttribute('placeholder', 'Any script');
});
