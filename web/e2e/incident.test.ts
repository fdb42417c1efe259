import type { Page } from '@playwright/test';

import { choose, expect, expectAccessible, logInAs, test } from './fixtures';
import { FRAMES, scrollThrough } from './scrolling';
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

  // By key alone: the palette offers what the page does.
  await page.keyboard.press('Control+k');
  await page.keyboard.type('edit and');
  await expect(page.getByRole('option', { selected: true })).toHaveText(/Edit and replay/);
  await page.keyboard.press('Enter');
  await page.reload();
  await expect(page.getByRole('textbox', { name: 'Payload' })).toHaveValue(/"n": 0/);
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
  await page.getByRole('button', { name: 'Discard' }).press('Enter');
  await expect(page.getByText('discarded', { exact: true })).toBeVisible();
  // The button is gone, and has not taken the focus with it.
  await expect(page.getByRole('heading', { level: 1 })).toBeFocused();
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

test('letters are found by subscription, script and time, and what is done to all takes just these', async ({ page, server }) => {
  await died(server, 3);
  const { subscription } = await server.handle('bill', 'bill.*', "export default () => { throw new Error('no bill') }", { retry_policy: { max_attempts: 1 } });
  await server.emit('bill.due', { n: 1 });
  await server.until('dead-letters/count', (answer) => answer.count === 4);
  await page.goto(`${server.url}/dead-letters`);
  await expect(page.getByText('4 of 4 letters')).toBeVisible();
  await choose(page, 'Subscription', 'bill');
  await expect(page.getByText('1 of 1 letter')).toBeVisible();
  await page.getByLabel('Died', { exact: true }).selectOption('Last hour');
  await page.reload();
  await expect(page.getByText('1 of 1 letter')).toBeVisible();
  await expect(page.getByRole('link', { name: 'Fix and drain' })).toHaveAttribute('href', new RegExp(`subscription_id=${subscription}&from=2`));
  await page.getByLabel('Subscription').click();
  await page.getByRole('option', { name: 'Any subscription' }).click();
  await choose(page, 'Script', 'book');
  await expect(page.getByText('3 of 3 letters')).toBeVisible();
  await expectAccessible(page);

  await page.getByRole('button', { name: 'Discard all 3' }).click();
  await expect(page.getByRole('dialog', { name: 'Discard 3 letters?' })).toBeVisible();
  // The question is a place of its own: a reload keeps it, Back takes it away.
  await page.reload();
  await expect(page.getByRole('dialog', { name: 'Discard 3 letters?' })).toBeVisible();
  await page.goBack();
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await expect(page.getByLabel('Script', { exact: true })).toHaveValue('book');
  await page.getByRole('button', { name: 'Discard all 3' }).click();
  await page.getByLabel('Type 3 to go on').fill('3');
  await page.getByRole('dialog').getByRole('button', { name: 'Discard' }).click();
  await expect(page.getByText('Discarded 3 of 3')).toBeVisible();
  const left = await server.until('dead-letters?status=dead', (answer) => answer.items.length === 1);
  expect(left.items[0].subscription_id).toBe(subscription);
});

/** Ten thousand letters like the one that there is: to let them die for real would take minutes. */
async function multiply(page: Page, server: Server, total: number): Promise<void> {
  const { items } = await server.api('GET', 'dead-letters');
  await page.route(/dead-letters\?/, async (route) => {
    const query = new URL(route.request().url()).searchParams;
    const [from, limit] = [Number(query.get('cursor') ?? 0), Number(query.get('limit'))];
    const page = Array.from({ length: Math.min(limit, total - from) }, (_, at) => ({ ...items[0], id: at + from === 29 ? items[0].id : `l${at + from}`, last_error: `no price ${at + from}` }));
    await route.fulfill({ json: { items: page, next: from + limit < total ? String(from + limit) : null } });
  });
  await page.route(/dead-letters\/count/, (route) => route.fulfill({ json: { count: total, exact: true } }));
}

test('ten thousand letters are read as they are scrolled to, by mouse and by key', async ({ page, server }) => {
  await died(server, 1);
  await multiply(page, server, 10_000);
  await page.goto(`${server.url}/dead-letters`);
  const table = page.getByRole('table', { name: 'Dead letters' });
  const focused = table.locator(':focus');
  await expect(page.getByText('200 of 10,000 letters, older ones as you scroll')).toBeVisible();

  await table.focus();
  for (let n = 0; n < 31; n += 1) await page.keyboard.press('j');
  await expect(focused).toHaveAttribute('aria-rowindex', '32');
  await expect(focused).toBeInViewport({ ratio: 0.95 });

  // The pointer rests on the list while its wheel turns: older ones are let through.
  await table.hover();
  await expect(async () => {
    await page.mouse.wheel(0, 100_000);
    await expect(page.getByText('10,000 of 10,000 letters')).toBeVisible({ timeout: 100 });
  }).toPass({ intervals: [50], timeout: 60_000 });
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable', { timeDomain: 'threadTicks' });
  const busy = async (): Promise<number> => (await session.send('Performance.getMetrics')).metrics.find((one) => one.name === 'TaskDuration')?.value ?? 0;
  const before = await busy();
  expect(await table.evaluate(scrollThrough, FRAMES)).toBeLessThan(60);
  // Two badges a row: a little more than an event takes.
  expect(((await busy()) - before) / FRAMES, 'seconds of CPU a frame, with every row another one').toBeLessThan(0.03);

  // The row that had the focus is far above: its table has it now, and goes on from there.
  await expect(table).toBeFocused();
  await page.keyboard.press('k');
  await expect(focused).toHaveAttribute('aria-rowindex', '31');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('no price');
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
