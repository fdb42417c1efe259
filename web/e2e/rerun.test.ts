import { choose, expect, expectAccessible, test } from './fixtures';

const FAILS = `export default async function (order) {
  console.log('order', order.n, Math.random());
  const seen = await sdk.kv.get('seen');
  if (order.n > 1) throw new Error('too many: ' + order.n);
  return seen ?? null;
}
`;

test('a failed run again: the same, then on a source that is mended', async ({ page, server }) => {
  await server.handle('count', 'order.*', FAILS, { retry_policy: { max_attempts: 1 } });
  await server.emit('order.placed', { n: 7 });
  const runs = await server.until('runs?outcome=failed', (answer) => answer.items.length === 1);
  await page.goto(`${server.url}/runs/${runs.items[0].id}`);
  const calls = page.getByRole('region', { name: 'Calls to the host' });
  await expect(calls.getByText('sdk.kv.get("seen")')).toBeVisible();
  await expect(calls.getByText('undefined')).toBeVisible();
  await page.getByRole('button', { name: 'Run again' }).click();
  await expect(page.getByText('the same', { exact: true })).toBeVisible();
  await page.getByText('Calls to the host, in order').click();
  await expect(page.getByRole('region', { name: 'Run again' }).getByText('sdk.kv.get("seen")')).toBeVisible();
  await expectAccessible(page);

  await page.getByRole('link', { name: 'Edit on this run' }).click();
  await expect(page.getByLabel('Id of the run')).toHaveValue(runs.items[0].id);
  await expect(page.getByRole('radio', { name: /too many: 7/ })).toBeChecked();
  const editor = page.getByRole('textbox', { name: 'Source' });
  await editor.click();
  await editor.press('Control+a');
  await editor.press('Delete');
  await editor.pressSequentially("export default async () => sdk.kv.get('other')");
  await editor.press('Control+Enter');
  await expect(page.getByText('not the same', { exact: true })).toBeVisible();
  await expect(page.getByText('First call that differs: 1')).toBeVisible();
  await expectAccessible(page);
});

test('versions are compared with what came before and with the editor', async ({ page, server }) => {
  await server.handle('count', 'order.*', FAILS);
  const { items } = await server.api('GET', 'scripts');
  await server.api('PATCH', `scripts/${items[0].id}`, { source: FAILS.replace('too many', 'far too many'), note: 'clearer' });
  await page.goto(`${server.url}/scripts/${items[0].id}`);
  await page.getByRole('button', { name: 'Versions' }).click();
  await page.getByText('Version 2', { exact: true }).click();
  const difference = page.getByRole('textbox', { name: 'From version 1 to 2' });
  await expect(difference).toContainText('far too many');
  await page.getByLabel('Show').selectOption('To the editor');
  await expect(page.getByText('Nothing differs.')).toBeVisible();
  await expectAccessible(page);
});

test('runs come by themselves, are found by subscription, and wait while the pointer rests on them', async ({ page, server }) => {
  await server.handle('one', 'job.one', "export default (job) => { console.log('one', job.n) }");
  await server.handle('two', 'job.two', "export default (job) => { console.log('two', job.n) }");
  await page.goto(`${server.url}/runs`);
  await expect(page.getByText('Nothing has run yet')).toBeVisible();
  await server.emit('job.one', { n: 1 });
  await expect(page.getByRole('link', { name: 'one 1' })).toBeVisible();
  await page.getByRole('link', { name: 'one 1' }).hover();
  await server.emit('job.two', { n: 2 });
  await expect(page.getByText('New runs wait while the pointer rests on the list')).toBeVisible();
  await expect(page.getByRole('link', { name: 'two 2' })).toHaveCount(0);
  await page.getByRole('heading', { level: 1 }).hover();
  await expect(page.getByRole('link', { name: 'two 2' })).toBeVisible();
  await choose(page, 'Subscription', 'two');
  await expect(page.getByText('1 run shown')).toBeVisible();
  await page.getByLabel('Time', { exact: true }).selectOption('Last hour');
  await page.reload();
  await expect(page.getByRole('link', { name: 'two 2' })).toBeVisible();
  await expect(page.getByRole('link', { name: 'one 1' })).toHaveCount(0);
  await expectAccessible(page);
});
