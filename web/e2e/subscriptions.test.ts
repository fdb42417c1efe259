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
