/**
 * What every journey starts from: a server of its own, and a page that is logged in.
 *
 * A journey fails when the console shows an error, the content security policy refuses something, or
 * a request leaves for another host; a journey that expects such a thing says so with `allow`.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { test as base, expect, type Page } from '@playwright/test';

import { Server, type Role } from './server';

export { expect };

interface Fixtures {
  server: Server;
  /** Logged in as admin. */
  page: Page;
  /** Console errors that match are expected. */
  allow: RegExp[];
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export const test = base.extend<Fixtures>({
  allow: [[], { option: true }],

  server: async ({}, use) => {
    const server = await Server.start();
    await use(server);
    await server.dispose();
  },

  page: async ({ page, server, allow }, use) => {
    const complaints: string[] = [];
    page.on('console', (message) => {
      const text = message.text();
      if (message.type() === 'error' && !allow.some((one) => one.test(text))) complaints.push(`${text} ${message.location().url}`);
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('request', (request) => {
      const { protocol, host } = new URL(request.url());
      if (protocol.startsWith('http') && host !== new URL(server.url).host) complaints.push(`asked ${request.url()}`);
    });
    await logIn(page, server, server.token);
    await use(page);
    expect(complaints, 'the console is clean').toEqual([]);
  },
});

/** Sets the session's cookie without going through the login page. */
export async function logIn(page: Page, server: Server, token: string): Promise<void> {
  const answer = await page.request.post(`${server.url}/api/v1/session`, { data: { token } });
  expect(answer.ok(), await answer.text()).toBe(true);
}

export async function logInAs(page: Page, server: Server, role: Role): Promise<void> {
  await logIn(page, server, await server.tokenFor(role));
}

/** Finds one of many by its name, and takes it. */
export async function choose(page: Page, label: string, name: string): Promise<void> {
  const field = page.getByRole('combobox', { name: label, exact: true });
  await field.fill(name);
  await page.getByRole('option', { name, exact: true }).click();
  await expect(field).toHaveValue(name);
}

/** Fails with the list of what axe-core finds against WCAG 2.2 AA; `soft`: at the end of the journey. */
export async function expectAccessible(page: Page, { soft = false } = {}): Promise<void> {
  // Through the debugger, since the page's policy refuses a script from here, as it should.
  await page.evaluate(axeSource);
  const found = await page.evaluate(async () => {
    const axe = (window as unknown as { axe: { run: (...args: unknown[]) => Promise<any> } }).axe;
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
    const { violations } = await axe.run(document, { runOnly: { type: 'tag', values: tags } });
    return violations.map((one: any) => `${one.id}: ${one.help}: ${one.nodes.map((node: any) => `${node.target} ${node.failureSummary}`).join(' | ')}`);
  });
  (soft ? expect.soft : expect)(found).toEqual([]);
}
