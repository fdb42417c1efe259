/**
 * Pictures for `docs/images`: `npm run screenshots`. Not a test; it runs the real binary with the
 * traffic of a small shop and takes every screen in both themes. `SCREENSHOTS=events,run` takes these.
 */
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { test } from '@playwright/test';

import { logIn } from './fixtures';
import { Server } from './server';

const IMAGES = fileURLToPath(new URL('../../docs/images', import.meta.url));
/** Long enough for the overview's charts to have a shape. */
const TRAFFIC_MS = 45_000;
const wanted = process.env.SCREENSHOTS === 'all' ? 'all' : (process.env.SCREENSHOTS ?? '').split(',');

interface Shop {
  server: Server;
  /** Goes on while the pictures are taken. */
  traffic: NodeJS.Timeout;
  /** An event with a history, a letter that died, a script and its subscription. */
  event: string;
  letter: string;
  script: string;
  /** A script with dead letters. */
  failing: string;
  subscription: string;
  run: string;
}

const SCREENS: Record<string, (shop: Shop) => string> = {
  overview: () => '/',
  events: () => '/events',
  event: (shop) => `/events/${shop.event}`,
  scripts: () => '/scripts',
  script: (shop) => `/scripts/${shop.script}?event=${shop.event}`,
  subscriptions: () => '/subscriptions',
  subscription: (shop) => `/subscriptions/${shop.subscription}`,
  'dead-letters': () => '/dead-letters',
  'dead-letter': (shop) => `/dead-letters/${shop.letter}`,
  drain: (shop) => `/scripts/${shop.failing}?drain=1`,
  runs: () => '/runs',
  run: (shop) => `/runs/${shop.run}`,
  delayed: () => '/delayed',
  supervision: () => '/supervision?order=cpu',
  settings: () => '/settings/tokens',
  webhooks: () => '/settings/hooks',
  storage: () => '/settings/storage',
  versions: (shop) => `/scripts/${shop.script}?do=versions`,
  'new-subscription': (shop) => `/subscriptions/new?script=${shop.script}&type=finance.PaymentCreated`,
  secrets: () => '/settings/secrets',
  keys: () => '/settings/kv',
  configuration: () => '/settings/configuration',
  audit: () => '/settings/audit',
  about: () => '/settings/about',
};

/** What `send-receipt` should have done. */
const MENDED = `export default (p) => {
  if (p.cents % 7 === 0) return { skipped: p.payment };
  return { sent: p.payment };
}
`;

async function shop(): Promise<Shop> {
  const server = await Server.start();
  const book = await server.handle(
    'book-payments',
    'finance.PaymentCreated',
    `interface Payment { id: string; amount: number; currency: string }

export default async function (payment: Payment) {
  const cents = Math.round(payment.amount * 100);
  await sdk.events.emit('ledger.booked', { payment: payment.id, cents });
  console.log(\`booked \${payment.id}\`);
  return { booked: payment.id, cents };
}
`,
    { filter: '$.amount > 100 && $.currency == "EUR"' },
  );
  const { script: failing } = await server.handle('send-receipt', 'ledger.*', `export default (p) => { if (p.cents % 7 === 0) throw new Error('SMTP 550: mailbox unavailable'); return { sent: p.payment }; }`, {
    retry_policy: { max_attempts: 3, backoff: { kind: 'fixed', initial_ms: 150 } },
  });
  await server.handle('fraud-check', 'finance.**', `export default (p) => { if (!p.customer) throw new sdk.PermanentError('no customer'); return { risk: p.amount / 1000 }; }`, { filter: '$.amount > 400' });
  await server.handle('sync-crm', 'customer.*', `export default async (p) => { await sdk.kv.set('customer/' + p.customer, p); await sdk.events.emit('customer.reminder', { customer: p.customer }, { delay: '2d' }); return { synced: p.customer }; }`);
  await server.handle('vat-report', 'finance.PaymentCreated', `export default (p) => ({ vat: Math.round(p.amount * 19) / 100 })`, { filter: '$.country == "DE"' });

  await server.api('PUT', 'secrets/github', { value: 'for the pictures' });
  await server.api('PUT', 'secrets/stripe', { value: 'for the pictures' });
  await server.api('POST', 'hooks', { name: 'github', preset: 'github', secrets: ['github'] });
  await server.api('POST', 'hooks', { name: 'stripe', preset: 'stripe', secrets: ['stripe'] });

  let n = 0;
  const traffic = setInterval(() => {
    n += 1;
    const pace = 4 + Math.round(3 * Math.sin(n / 25));
    void server.api('POST', 'events', Array.from({ length: pace }, (_, at) => order(n * 10 + at)));
  }, 200);
  await new Promise((resolve) => setTimeout(resolve, TRAFFIC_MS));
  const emitted = await server.api('GET', 'events?type=ledger.*&limit=1&deliveries=false');
  const letters = await server.api('GET', 'dead-letters?limit=1&status=dead');
  const runs = await server.api('GET', `runs?subscription_id=${book.subscription}&limit=1`);
  return { server, traffic, ...book, failing, event: emitted.items[0].cause.event_id, letter: letters.items[0].id, run: runs.items[0].id };
}

function order(n: number): Record<string, unknown> {
  if (n % 5 === 0) return { type: 'customer.updated', source: '/crm', subject: `customer-${n % 40}`, data: { customer: n % 40, name: 'Ada' } };
  if (n % 11 === 0) return { type: 'audit.login', source: '/auth', data: { user: n } };
  return {
    type: 'finance.PaymentCreated',
    source: '/shop',
    subject: `order-${n}`,
    data: {
      id: `p${n}`,
      amount: ((n * 7919) % 60_000) / 100,
      currency: n % 4 ? 'EUR' : 'USD',
      country: n % 3 ? 'DE' : 'FR',
      customer: n % 13 ? { id: n % 40, vip: n % 7 === 0 } : null,
      lines: [{ sku: 'BOX-7', quantity: 2 }],
    },
  };
}

test('every screen in both themes', async ({ browser }) => {
  test.setTimeout(TRAFFIC_MS + 900_000);
  const made = await shop();
  for (const colorScheme of ['light', 'dark'] as const) {
    const context = await browser.newContext({ colorScheme, viewport: { width: 1280, height: 800 } });
    const page = await context.newPage();
    const isWanted = (name: string): boolean => wanted === 'all' || wanted.includes(name);
    if (isWanted('login')) {
      await page.goto(`${made.server.url}/`);
      await page.getByRole('heading', { level: 1 }).waitFor();
      await page.screenshot({ path: path.join(IMAGES, `login-${colorScheme}.png`) });
    }
    if (isWanted('first-run')) {
      const fresh = await Server.start();
      await logIn(page, fresh, fresh.token);
      await page.goto(`${fresh.url}/`);
      await page.getByRole('heading', { level: 1 }).waitFor();
      await page.waitForTimeout(1_000);
      await page.screenshot({ path: path.join(IMAGES, `first-run-${colorScheme}.png`) });
      await fresh.dispose();
    }
    await logIn(page, made.server, made.server.token);
    for (const [name, where] of Object.entries(SCREENS).filter(([name]) => isWanted(name))) {
      await page.goto(made.server.url + where(made));
      await page.getByRole('heading', { level: 1 }).waitFor();
      await page.waitForTimeout(1_500);
      if (name === 'drain') {
        await page.locator('.cm-content').first().click();
        await page.keyboard.press('ControlOrMeta+a');
        await page.keyboard.insertText(MENDED);
        await page.getByRole('button', { name: /Try on all/ }).click();
        await page.getByText(/[1-9]\d* pass/).waitFor();
        await page.getByRole('button', { name: /Try on all/ }).waitFor();
      }
      await page.screenshot({ path: path.join(IMAGES, `${name}-${colorScheme}.png`) });
    }
    await context.close();
  }
  clearInterval(made.traffic);
  await made.server.dispose();
});
