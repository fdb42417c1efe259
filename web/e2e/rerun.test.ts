import { expect, expectAccessible, test } from './fixtures';

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
  await page.getByRole('button', { name: 'Run again' }).click();
  await expect(page.getByText('the same', { exact: true })).toBeVisible();
  await page.getByText('Calls to the host, in order').click();
  await expect(page.getByText('sdk.kv.get("seen")')).toBeVisible();
  await expectAccessible(page);

  await page.getByRole('link', { name: 'Edit on this run' }).click();
  await expect(page.getByLabel('On a recorded run, offline')).toHaveValue(runs.items[0].id);
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
