// Puts the scripts and subscriptions of tripline.json into a server, publishes every payload, waits
// until all is settled, and prints what happened.
//
// With TRIPLINE_URL and TRIPLINE_TOKEN that server is used; else one of its own is started over a
// temporary folder (binary: TRIPLINE_BIN, by default target/debug/tripline) and ended afterwards.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { events } from './events.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const LANGUAGES = { '.ts': 'typescript', '.js': 'javascript', '.mjs': 'javascript' };
const TERMINAL = new Set(['succeeded', 'dead', 'discarded']);

const server = process.env.TRIPLINE_URL
  ? { url: process.env.TRIPLINE_URL, token: process.env.TRIPLINE_TOKEN, stop() {} }
  : await startServer();
try {
  const subscriptions = await apply(JSON.parse(readFileSync(join(here, 'tripline.json'), 'utf8')));
  const published = await publish(events());
  const stored = await settled();
  await print(published, tally(subscriptions, stored));
} finally {
  server.stop();
}

async function startServer() {
  const home = mkdtempSync(join(tmpdir(), 'tripline-github-'));
  const port = await freePort();
  const binary = process.env.TRIPLINE_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(here, '../../target'), 'debug/tripline');
  const child = spawn(binary, ['serve', '--data', join(home, 'data'), '--listen', `127.0.0.1:${port}`], {
    cwd: home,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { TRIPLINE_LOG__LEVEL: 'warn', ...process.env },
  });
  const stop = () => {
    child.once('exit', () => rmSync(home, { recursive: true, force: true }));
    child.kill('SIGTERM');
  };
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => (stop(), process.exit(1)));
  const url = `http://127.0.0.1:${port}`;
  await until('the server to be ready', async () => {
    if (child.exitCode !== null) throw new Error(`${binary} ended with ${child.exitCode}`);
    return (await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(2_000) }).catch(() => null))?.ok;
  });
  return { url, token: readFileSync(join(home, 'data/admin.token'), 'utf8').trim(), stop };
}

/** Creates what is not there yet. Answers the subscriptions as the server shows them. */
async function apply({ scripts, subscriptions }) {
  const known = new Map((await all('/api/v1/scripts')).map((script) => [script.name, script]));
  for (const { name, file, ...rest } of scripts) {
    const body = { name, language: LANGUAGES[extname(file)], source: readFileSync(join(here, file), 'utf8'), ...rest };
    if (!known.has(name)) known.set(name, await api('POST', '/api/v1/scripts', body));
  }
  const there = new Map((await all('/api/v1/subscriptions')).map((one) => [one.name, one]));
  for (const { script, ...rest } of subscriptions) {
    const body = { ...rest, script_id: known.get(script).id };
    if (!there.has(rest.name)) there.set(rest.name, await api('POST', '/api/v1/subscriptions', body));
  }
  return subscriptions.map(({ name }) => there.get(name));
}

/** One request for each hundred events. */
async function publish(list) {
  const total = { accepted: 0, duplicates: 0, ms: 0 };
  const from = performance.now();
  for (let at = 0; at < list.length; at += 100) {
    const answer = await api('POST', '/api/v1/events', list.slice(at, at + 100), 'application/cloudevents-batch+json');
    total.accepted += answer.accepted;
    total.duplicates += answer.duplicates;
  }
  total.ms = Math.round(performance.now() - from);
  return total;
}

/** All stored events with their deliveries, once every delivery has ended and no event came to it. */
async function settled() {
  let known = 0;
  return until('all deliveries to end', async () => {
    const stored = await all('/api/v1/events?data=false');
    const grown = stored.length > known;
    known = stored.length;
    const ended = stored.every(({ deliveries }) => deliveries.every(({ status }) => TERMINAL.has(status)));
    // What the last deliveries emitted shows in one more look.
    return ended && !grown && stored;
  });
}

/** How the deliveries of each subscription ended, and how many events came of them. */
function tally(subscriptions, stored) {
  const rows = new Map(subscriptions.map(({ id, name }) => [id, { id, name, succeeded: 0, dead: 0, discarded: 0, emitted: 0 }]));
  for (const { deliveries, cause } of stored) {
    for (const { subscription_id, status } of deliveries) {
      const row = rows.get(subscription_id);
      if (row) row[status] += 1;
    }
    const parent = rows.get(cause?.subscription_id);
    if (parent) parent.emitted += 1;
  }
  return [...rows.values()];
}

async function print({ accepted, duplicates, ms }, rows) {
  if (process.argv.includes('--json')) {
    console.log(JSON.stringify({ accepted, duplicates, subscriptions: rows }));
    return;
  }
  console.log(`\n${accepted} webhooks accepted in ${ms} ms, ${duplicates} seen before\n`);
  console.log('subscription              succeeded  dead  emitted');
  for (const { name, succeeded, dead, emitted } of rows) {
    console.log(`${name.padEnd(26)}${cell(succeeded, 9)}${cell(dead, 6)}${cell(emitted, 9)}`);
  }
  const team = rows.find(({ name }) => name === 'tell-team');
  const messages = (await all(`/api/v1/runs?subscription_id=${team.id}`)).flatMap(({ result }) => result?.line ?? []);
  console.log('\nthe last of what the team was told:');
  for (const line of messages.slice(0, 8)) console.log(`  ${line.split('\n')[0].slice(0, 110)}`);
  const letters = await all('/api/v1/dead-letters');
  console.log(`\n${letters.length} dead letters wait for a person, such as:`);
  for (const { error_kind, last_error, subscription_name } of letters.slice(0, 3)) {
    console.log(`  ${subscription_name}: ${error_kind}: ${last_error}`);
  }
}

function cell(value, width) {
  return String(value).padStart(width);
}

/** Every item of a list, page after page. */
async function all(path) {
  const items = [];
  for (let cursor = null; ; ) {
    const query = `${path.includes('?') ? '&' : '?'}limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`;
    const page = await api('GET', path + query);
    items.push(...page.items);
    if (!(cursor = page.next)) return items;
  }
}

async function api(method, path, body, type = 'application/json') {
  const response = await fetch(server.url + path, {
    method,
    signal: AbortSignal.timeout(30_000),
    headers: { authorization: `Bearer ${server.token}`, ...(body && { 'content-type': type }) },
    body: body && JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

/** Looks every 50 ms, for a minute at most; answers what `look` found. */
async function until(what, look) {
  for (const from = Date.now(); Date.now() - from < 60_000; await new Promise((wake) => setTimeout(wake, 50))) {
    const found = await look();
    if (found) return found;
  }
  throw new Error(`waited a minute for ${what}`);
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}
