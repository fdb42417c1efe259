import { createHmac } from 'node:crypto';

import { expect, expectAccessible, logInAs, test } from './fixtures';

const SECRET = 'hush-hush-hush';

test('a webhook is opened, takes what is signed, and shows what it refused', async ({ page, server }) => {
  await server.api('PUT', 'secrets/github', { value: SECRET });
  await page.goto(`${server.url}/settings/hooks`);
  await expect(page.getByText('No webhooks yet')).toBeVisible();
  await page.getByRole('button', { name: 'New webhook' }).click();
  const form = page.getByRole('dialog', { name: 'New webhook' });
  await form.getByLabel('Name').fill('github');
  await form.getByLabel('Signed by').selectOption('github');
  await form.getByLabel('github').check();
  await expectAccessible(page);
  await form.getByRole('button', { name: 'Open' }).click();
  await expect(page.getByText('The webhook is open')).toBeVisible();

  const body = '{"ref":"main"}';
  const deliver = (key: string) =>
    fetch(`${server.url}/hooks/github`, {
      method: 'POST',
      body,
      headers: { 'x-github-event': 'push', 'x-github-delivery': 'd1', 'x-hub-signature-256': `sha256=${createHmac('sha256', key).update(body).digest('hex')}` },
    });
  expect((await deliver(SECRET)).status).toBe(202);
  expect((await deliver('another')).status).toBe(401);
  await page.getByRole('row', { name: /github/ }).click();
  const drawer = page.getByRole('dialog', { name: 'github' });
  await expect(drawer.getByText(`${server.url}/hooks/github`)).toBeVisible();
  await expect(drawer.getByText('wrong_signature')).toBeVisible();
  await expectAccessible(page);
  await drawer.getByRole('button', { name: 'Change' }).click();
  await page.getByRole('dialog').getByLabel('Subject').fill('{$.ref}');
  await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText('The next delivery meets the change')).toBeVisible();
  await page.getByRole('link', { name: 'Events that came through it' }).click();
  await expect(page.getByText('github.push').first()).toBeVisible();
});

test('a viewer sees webhooks, and changes none', async ({ page, server }) => {
  await server.api('PUT', 'secrets/github', { value: SECRET });
  await server.api('POST', 'hooks', { name: 'github', preset: 'github', secrets: ['github'] });
  await logInAs(page, server, 'viewer');
  await page.goto(`${server.url}/settings/hooks`);
  await page.getByRole('row', { name: /github/ }).click();
  await expect(page.getByRole('dialog').getByText('None since the server started.')).toBeVisible();
  await expect(page.getByRole('button', { name: /New webhook|Change|Remove/ })).toHaveCount(0);
});
