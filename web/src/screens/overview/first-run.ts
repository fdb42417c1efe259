/** The first steps: what the button does, and what the reader copies. */
import { api } from '../../api/client';
import { base } from '../../router/base';

export const HANDLER = `export default async function (order: { item: string; price: number }) {
  const gross = Math.round(order.price * 119) / 100;
  console.log(\`\${order.item}: \${gross} with tax\`);
  return { item: order.item, gross };
}
`;

export const TYPE = 'demo.OrderPlaced';
export const PAYLOAD = { item: 'lamp', price: 42 };
const NAME = 'first-steps';

export interface Made {
  script: string;
  subscription: string;
  /** Of a token that may only publish. Shown once, as all are; null for those who may make none. */
  secret: string | null;
}

/** Saves the handler, subscribes it, and makes a key to publish with. */
export async function make(mayMakeTokens: boolean): Promise<Made> {
  const script = await api.post('/api/v1/scripts', { body: { name: NAME, source: HANDLER, language: 'typescript', fetch_allow: [] } });
  const subscription = await api.post('/api/v1/subscriptions', {
    body: { name: NAME, script_id: script.id, event_type: TYPE, paused: false },
  });
  const token = mayMakeTokens ? await api.post('/api/v1/tokens', { body: { name: NAME, role: 'publisher' } }) : null;
  return { script: script.id, subscription: subscription.id, secret: token?.secret ?? null };
}

/** Publishes the example event; answers with its uid. */
export async function publish(): Promise<string | undefined> {
  const published = await api.post('/api/v1/events', { body: { type: TYPE, data: PAYLOAD } as never });
  return published.ids[0];
}

/** A command that works as it stands in any shell of POSIX. */
export function curl(secret: string | null): string {
  const key = secret ?? '$TRIPLINE_TOKEN';
  return `curl ${new URL('api/v1/events', base).href} \\
  -H "Authorization: Bearer ${key}" \\
  -H 'Content-Type: application/json' \\
  -d '${JSON.stringify({ type: TYPE, data: PAYLOAD })}'`;
}
