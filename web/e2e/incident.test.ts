import { expect, expectAccessible, logInAs, test } from './fixtures';
import type { Server } from './server';

const FAILS = `export default async function (order) {
  console.log('about to book');
  if (order.price === undefined) throw new Error('no price');
  console.log('booked');
  return { booked: order.price };
}
`;

async function died(server: Server, count: number): Promise<void> {
  await server.handle('book', 'order.*', FAILS, { retry_policy: { max_attempts: 1 } });
  for (let n = 0; n < count; n += 1) await server.emit('order.placed', { n });
  await server.until('dead-letters/count', (answer) => answer.count === count);
}

test('from the alert to drained: the code that failed, the payload mended, replayed', async ({ page, server }) => {
  await died(server, 1);
  await page.goto(server.url);
  await page.getByRole('link', { name: /Dead letters 1/ }).click();
  await page.getByRole('link', { name: /no price/ }).click();
  await expect(page.getByRole('region', { name: 'the lines' })).toContainText("throw new Error('no price')");
  await expect(page.getByRole('region', { name: 'Log of the last attempt' }).getByText('about to book')).toBeVisible();
  await expectAccessible(page);

  await page.getByRole('button', { name: 'Replay', exact: true }).click();
  await expect(page.getByRole('dialog').getByRole('radio', { name: 'now: version 1' })).toBeChecked();
  await expect(page.getByRole('dialog').getByRole('radio', { name: 'then: version 1, the one that failed' })).toBeVisible();
  await expectAccessible(page);
  await page.keyboard.press('Escape');

  await page.getByRole('button', { name: 'Edit and replay' }).click();
  await page.getByRole('textbox', { name: 'Payload' }).fill('{"price": 9007199254740993');
  await expect(page.getByRole('dialog').getByRole('button', { name: 'Replay' })).toBeDisabled();
  await page.getByRole('textbox', { name: 'Payload' }).fill('{"price": 5}');
  await page.getByRole('dialog').getByRole('button', { name: 'Replay' }).click();
  await expect(page.getByText('replayed', { exact: true })).toBeVisible();
  await page.getByRole('link', { name: 'Replay 1, attempt 1' }).click();
  await expect(page.getByText('booked').first()).toBeVisible();
  await expectAccessible(page);
});

test('what was discarded comes back', async ({ page, server }) => {
  await died(server, 1);
  const letters = await server.api('GET', 'dead-letters');
  await page.goto(`${server.url}/dead-letters/${letters.items[0].id}`);
  await page.getByRole('button', { name: 'Discard' }).click();
  await expect(page.getByText('discarded', { exact: true })).toBeVisible();
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect(page.getByText('dead', { exact: true })).toBeVisible();
});

test('a bulk replay shows how far it is, and stops when told', async ({ page, server }) => {
  await died(server, 12);
  await page.goto(`${server.url}/dead-letters`);
  await page.getByRole('button', { name: 'Replay all 12' }).click();
  await page.getByLabel('At most, letters per second').fill('2');
  await expectAccessible(page);
  await page.getByRole('dialog').getByRole('button', { name: 'Replay' }).click();
  await page.getByRole('button', { name: 'Stop' }).click();
  await expect(page.getByText('then stopped')).toBeVisible();
});

test('discarding all takes their number', async ({ page, server }) => {
  await died(server, 3);
  await page.goto(`${server.url}/dead-letters?text=price`);
  await page.getByRole('button', { name: 'Discard all 3' }).click();
  const go = page.getByRole('dialog').getByRole('button', { name: 'Discard' });
  await expect(go).toBeDisabled();
  await page.getByLabel('Type 3 to go on').fill('3');
  await go.click();
  await expect(page.getByText('Discarded 3 of 3')).toBeVisible();
  await expect(page.getByText('No letter fits')).toBeVisible();
});

test('a viewer reads letters and runs, and changes none', async ({ page, server }) => {
  await died(server, 1);
  await logInAs(page, server, 'viewer');
  await page.goto(`${server.url}/dead-letters`);
  await expect(page.getByRole('link', { name: /no price/ })).toBeVisible();
  await expect(page.getByRole('button', { name: /all 1/ })).toHaveCount(0);
  await page.goto(`${server.url}/runs?outcome=failed`);
  await page.getByRole('link', { name: 'no price' }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('book failed on order.placed');
});

test('a group is mended on all its payloads, saved, and drained', async ({ page, server }) => {
  await died(server, 5);
  await page.goto(`${server.url}/dead-letters`);
  await page.getByRole('link', { name: 'Fix and drain' }).click();
  const panel = page.getByRole('region', { name: 'Fix and drain' });
  await expect(panel.getByText('5 dead letters')).toBeVisible();
  await panel.getByRole('button', { name: 'Try on all 5' }).click();
  await expect(panel.getByText('5 fail')).toBeVisible();

  const source = page.getByRole('textbox', { name: 'Source' });
  await source.click();
  await source.press('Control+a');
  await source.press('Delete');
  await source.pressSequentially('export default (order) => { if (order.n === 4) throw new Error("four"); return order.n }');
  await panel.getByRole('button', { name: 'Try on all 5' }).click();
  await expect(panel.getByText('4 pass')).toBeVisible();
  await expect(panel.getByRole('link', { name: 'four' })).toBeVisible();
  await expectAccessible(page);
  await panel.getByRole('button', { name: 'Test this one' }).click();
  await page.getByRole('button', { name: 'Run', exact: true }).click();
  await expect(page.getByRole('region', { name: 'Test' }).getByText('four').first()).toBeVisible();
  await expect(panel.getByRole('button', { name: 'Replay 5' })).toBeDisabled();

  await source.press('Control+a');
  await source.press('Delete');
  await source.pressSequentially('export default (order) => order.n');
  await expect(panel.getByText('the source has changed since')).toBeVisible();
  await panel.getByRole('button', { name: 'Try on all 5' }).click();
  await expect(panel.getByText('5 pass')).toBeVisible();
  await source.press('Control+s');
  await expect(page.getByText('Version 2 is saved')).toBeVisible();
  await panel.getByRole('button', { name: 'Replay 5' }).click();
  await expect(panel.getByText('Replayed 5 of 5')).toBeVisible();
  await server.until('dead-letters/count?status=replayed', (answer) => answer.count === 5);
});

test('what was discarded in bulk comes back', async ({ page, server }) => {
  await died(server, 3);
  await page.goto(`${server.url}/dead-letters`);
  await page.getByRole('button', { name: 'Discard all 3' }).click();
  await page.getByLabel('Type 3 to go on').fill('3');
  await page.getByRole('dialog').getByRole('button', { name: 'Discard' }).click();
  await expect(page.getByText('Discarded 3 of 3')).toBeVisible();
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect(page.getByText('Restored 3 of 3')).toBeVisible();
  await server.until('dead-letters/count?status=dead', (answer) => answer.count === 3);
});

test('an alert of the runtime leads to the letter that it is about', async ({ page, server }) => {
  await server.handle('pager', 'tripline.**', 'export default (alert) => alert.last_error');
  await died(server, 1);
  const alerts = await server.until('events?type=tripline.**', (answer) => answer.items.length === 1);
  await page.goto(`${server.url}/events/${alerts.items[0].uid}`);
  await page.getByRole('link', { name: 'What it is about' }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('no price');
});
