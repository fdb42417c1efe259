/** The real binary, with a free port and a data folder of its own. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BINARY =
  process.env.TRIPLINE_BIN ??
  path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'debug', 'tripline');
const START_MS = 60_000;

export type Role = 'publisher' | 'viewer' | 'editor' | 'admin';

export class Server {
  #home = mkdtempSync(path.join(tmpdir(), 'tripline-e2e-'));
  #process: ChildProcess | null = null;
  #said = '';

  private constructor(
    private readonly port: number,
    private readonly environment: Record<string, string>,
  ) {}

  static async start(environment: Record<string, string> = {}): Promise<Server> {
    const server = new Server(await freePort(), environment);
    await server.launch();
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get token(): string {
    return readFileSync(path.join(this.#home, 'data', 'admin.token'), 'utf8').trim();
  }

  /** What the server printed at its start for people to open. */
  get loginLink(): string {
    const link = /http:\S+#code=\S+/.exec(this.#said)?.[0];
    if (!link) throw new Error(`no login link in:\n${this.#said}`);
    return link;
  }

  async launch(): Promise<void> {
    this.#said = '';
    const child = spawn(BINARY, ['serve'], {
      cwd: this.#home,
      env: {
        PATH: process.env.PATH,
        NO_COLOR: '1',
        TRIPLINE_SERVER__LISTEN: `127.0.0.1:${this.port}`,
        TRIPLINE_STORAGE__DATA: path.join(this.#home, 'data'),
        TRIPLINE_STORAGE__URL: `sqlite://${path.join(this.#home, 'data', 'tripline.db')}`,
        ...this.environment,
      },
    });
    this.#process = child;
    child.stdout.on('data', (data: Buffer) => (this.#said += data.toString()));
    child.stderr.on('data', (data: Buffer) => (this.#said += data.toString()));
    const end = Date.now() + START_MS;
    while (Date.now() < end) {
      if (child.exitCode !== null) break;
      const ready = await fetch(`${this.url}/readyz`).then((answer) => answer.ok, () => false);
      if (ready) return;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`the server does not start:\n${this.#said}`);
  }

  /** Ends the process as a deploy would. */
  async stop(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
  }

  async dispose(): Promise<void> {
    await this.stop();
    rmSync(this.#home, { recursive: true, force: true });
  }

  /** Speaks to the API as a program does. `as` is a token's secret; the admin's if absent. */
  async api<T = any>(method: string, route: string, body?: unknown, as: string = this.token): Promise<T> {
    const answer = await fetch(`${this.url}/api/v1/${route}`, {
      method,
      headers: { authorization: `Bearer ${as}`, 'content-type': 'application/json' },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${route}: ${answer.status} ${text}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }

  async tokenFor(role: Role): Promise<string> {
    return (await this.api<{ secret: string }>('POST', 'tokens', { name: role, role })).secret;
  }

  /** A script with one subscription to `type`; answers with their ids. */
  async handle(
    name: string,
    type: string,
    source: string,
    more: Record<string, unknown> = {},
  ): Promise<{ script: string; subscription: string }> {
    const script = await this.api<{ id: string }>('POST', 'scripts', { name, source, language: 'typescript' });
    const subscription = await this.api<{ id: string }>('POST', 'subscriptions', {
      name,
      script_id: script.id,
      event_type: type,
      ...more,
    });
    return { script: script.id, subscription: subscription.id };
  }

  /** Publishes one event; answers with its uid. */
  async emit(type: string, data: unknown, more: Record<string, unknown> = {}): Promise<string> {
    const published = await this.api<{ ids: string[] }>('POST', 'events', { type, data, ...more });
    return published.ids[0] ?? '';
  }

  /** Asks until `wanted` says yes; the last answer is in the error. */
  async until<T = any>(route: string, wanted: (answer: T) => boolean): Promise<T> {
    const end = Date.now() + 45_000;
    let last: T | undefined;
    while (Date.now() < end) {
      last = await this.api<T>('GET', route);
      if (wanted(last)) return last;
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
    throw new Error(`${route} never came to be as wanted; last: ${JSON.stringify(last)}`);
  }
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
