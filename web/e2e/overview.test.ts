import { execFileSync } from 'node:child_process';

import { expect, expectAccessible, logInAs, test } from './fixtures';

test('the first run: one button, and the command as it is shown', async ({ page, server }) => {
  await page.goto(server.url);
  await expect(page.getByRole('heading', { name: 'Three steps to the first run' })).toBeVisible();
  await expectAccessible(page);
  await page.getByRole('button', { name: 'Do it for me' }).click();
  await expect(page.getByText('succeeded')).toBeVisible();
  await expect(page.getByText('lamp: 49.98 with tax')).toBeVisible();

  const command = await page.getByRole('region', { name: 'the command' }).innerText();
  const answer = JSON.parse(execFileSync('sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  expect(answer).toMatchObject({ accepted: 1, duplicates: 0 });

  await page.getByRole('link', { name: 'See the event' }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('demo.OrderPlaced');
});

test('the first run, step by step', async ({ page, server }) => {
  await page.goto(server.url);
  await page.getByRole('button', { name: 'Save and subscribe it' }).click();
  await expect(page.getByText('Open it in the editor')).toBeVisible();
  await page.getByRole('button', { name: 'Send it from here' }).click();
  await expect(page.getByText('49.98').first()).toBeVisible();
});

test('numbers, what fails most and what changed', async ({ page, server }) => {
  await server.handle('mailer', 'mail.*', "export default () => { throw new Error('no such host') }", { retry_policy: { max_attempts: 1 } });
  await server.emit('mail.requested', {});
  await server.until('dead-letters/count', (answer) => answer.count === 1);
  await page.goto(server.url);
  await expect(page.getByRole('link', { name: /Dead letters 1/ })).toBeVisible();
  // One window here and beside the navigation.
  await expect(page.getByRole('link', { name: /^Events .*last 10 s/ })).toBeVisible();
  await expect(page.getByTitle(/over the last 10 s as this tab saw them/)).toHaveText(/^[\d.]+ events\/s$/);
  await expect(page.getByRole('link', { name: 'mailer' }).first()).toBeVisible();
  await expect(page.getByText('1 died')).toBeVisible();
  await expect(page.getByText('created subscription')).toBeVisible();
  await page.getByLabel('Range').selectOption('Last 7 days');
  await page.reload();
  await expect(page.getByLabel('Range')).toHaveValue('10080');
  // The first steps of the chart take two samples.
  await expect(page.getByRole('figure', { name: /Events accepted/ })).toBeVisible();
  await expect(page.getByRole('figure', { name: 'Dead letters' })).toContainText('Dead 1');
  await expectAccessible(page);
  await page.keyboard.press('t');
  await page.keyboard.press('t');
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  await expectAccessible(page);
});

test('a viewer is offered nothing that would be refused', async ({ page, server }) => {
  await logInAs(page, server, 'viewer');
  await page.goto(server.url);
  await expect(page.getByRole('heading', { name: 'Three steps to the first run' })).toBeVisible();
  await expect(page.getByRole('button', { name: 'Do it for me' })).toHaveCount(0);
  await expect(page.getByRole('button', { name: 'Save and subscribe it' })).toHaveCount(0);
  await page.goto(`${server.url}/settings`);
  await expect(page.getByRole('tab', { name: 'Tokens' })).toHaveCount(0);
  await page.goto(`${server.url}/supervision`);
  await expect(page.getByRole('row', { name: /journal/ })).toBeVisible();
  await expect(page.getByRole('button', { name: /Restart/ })).toHaveCount(0);
});
