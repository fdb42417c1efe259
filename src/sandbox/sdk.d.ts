// What scripts find in Tripline's sandbox, beside the JavaScript language itself (ES2023).
// Printed by `tripline types`, served at /api/v1/sdk.d.ts.

/** The door to Tripline. Frozen: nothing in it can be replaced. */
declare namespace sdk {
  namespace events {
    /**
     * The payload of the event that triggered this run: the same object a handler gets as its
     * first parameter. Throws outside of a run (at the top level of a handler module).
     *
     * Numbers are doubles: integers beyond 2^53 are rounded, and the run carries a warning.
     */
    function current<T = any>(): T;

    /** The event's envelope and this attempt: what a handler gets as its second parameter. */
    function context(): EventContext;

    /**
     * Emits an event. It becomes visible, exactly once, when this run succeeds: a run that fails
     * leaves nothing behind. Counts even when the promise is not awaited.
     *
     * @param eventType Dot-separated, without blanks and wildcards: `order.priced`. At most 255 bytes.
     * @param data Anything JSON can hold, as an object. At most 1 MiB and 100 levels by default.
     * @returns A promise that is rejected when the emit is refused (wrong arguments, or over the
     * run's limit of emits). If the rejection is not caught the run fails as `emit_rejected`. Past
     * the limits that stop loops of emits the run fails as `hop_limit` in any case.
     */
    function emit(eventType: string, data: object, options?: EmitOptions): Promise<void>;
  }

  /**
   * Keys and values that stay. Each script has its own keys; `sdk.kv.shared(name)` are those that all
   * scripts may use.
   *
   * Writes are kept when this run succeeds, in one commit with its outcome; a run that fails leaves
   * none behind. A run sees its own writes. If another run changes what this one has read, before
   * this one ends, this one goes again from the start, without that counting as an attempt.
   */
  const kv: KeyValues & {
    /** @param name 1 to 64 lower-case letters, digits, `-`, `_`, `.`, beginning with a letter. */
    shared(name: string): KeyValues;
  };

  namespace secrets {
    /**
     * A secret that an admin has granted to this script. Its value is replaced by its name wherever
     * this run's logs, result and errors are kept.
     */
    function get(name: string): Promise<string>;
  }

  /**
   * Throw it when another attempt cannot help: no more attempts, straight to the dead letters.
   *
   * @example
   * if (!payload.email) throw new sdk.PermanentError(`order ${payload.id} has no e-mail address`);
   */
  class PermanentError extends Error {}

  /**
   * Throw it to be tried again after a delay of your choice instead of the policy's backoff. It
   * counts as an attempt like any other failure.
   *
   * @example
   * throw new sdk.RetryError('the shop is closed', { after: '30m' });
   */
  class RetryError extends Error {
    constructor(message: string, options: { after: Delay });
  }
}

/** Keys have 1 to 512 bytes, values are JSON of at most 256 KiB by default. */
interface KeyValues {
  /** The value, or undefined. */
  get<T = any>(key: string): Promise<T | undefined>;
  /**
   * Sets a key. Counts even when the promise is not awaited.
   *
   * @param options.ttl How long the key stays; without it, for good.
   */
  set(key: string, value: any, options?: { ttl?: Delay }): Promise<void>;
  /** Adds to a number (an absent key counts as 0) and returns the sum. The key's time to live stays. */
  increment(key: string, by?: number): Promise<number>;
  remove(key: string): Promise<void>;
  /**
   * Keys with their values in the order of the keys' bytes; at most `limit` (100, up to 1,000), fewer
   * where values are long. The next page comes `after` the last key; an empty one is the end.
   */
  list<T = any>(options?: { prefix?: string; after?: string; limit?: number }): Promise<{ key: string; value: T }[]>;
}

/** Milliseconds, or a text with a unit: `"500ms"`, `"30s"`, `"10m"`, `"2h"`, `"7d"`. */
type Delay = number | string;

interface EmitOptions {
  /**
   * The event's id. Together with the emitting subscription it names the event: one already seen
   * is not delivered again. Without it each emit of a delivery has an id of its own, the same in
   * every attempt.
   */
  id?: string;
  /** What the event is about, such as the id of an order. */
  subject?: string;
  /** Makes the event appear that much later. */
  delay?: Delay;
}

/** An event's envelope, and the attempt to handle it. Frozen. */
interface EventContext {
  /** The CloudEvent's id: unique within its source. */
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly subject?: string;
  /** RFC 3339: the publisher's, or when the event was accepted. */
  readonly time: string;
  readonly extensions: Readonly<Record<string, unknown>>;
  /** Counts from 1. */
  readonly attempt: number;
  readonly maxAttempts: number;
  /** True when an operator replays a dead letter. */
  readonly replayed: boolean;
  /** Emits between this event and the published one it descends from. */
  readonly hop: number;
  /** The same in all attempts and replays of this delivery: give it to what you call. */
  readonly idempotencyKey: string;
  readonly subscription: { readonly id: string; readonly name: string };
  readonly script: { readonly id: string; readonly name: string; readonly version: number };
  /** This attempt's run, as the API and the dashboard name it. */
  readonly runId: string;
}

/**
 * A handler module's default export. Called once per delivery; what it returns is kept on the run
 * as JSON.
 */
type Handler<T = any> = (payload: T, context: EventContext) => unknown;

/** Kept on the run, up to 64 KiB by default; what is beyond is cut with a mark. */
declare const console: {
  debug(...values: unknown[]): void;
  log(...values: unknown[]): void;
  info(...values: unknown[]): void;
  warn(...values: unknown[]): void;
  error(...values: unknown[]): void;
  /** Shows one value. */
  dir(value: unknown): void;
  table(value: unknown): void;
  /** A debug line with the stack. */
  trace(...values: unknown[]): void;
  /** An error line when the condition is false. */
  assert(condition: unknown, ...values: unknown[]): void;
};

/**
 * Calls back after `delay` milliseconds, as long as the run lasts: a run ends when its handler's
 * promise has settled, and timers still open are cancelled.
 */
declare function setTimeout<A extends unknown[]>(callback: (...args: A) => void, delay?: number, ...args: A): number;
declare function clearTimeout(id: number | undefined): void;
declare function queueMicrotask(callback: () => void): void;

/** A deep copy. Functions, symbols and promises cannot be copied. */
declare function structuredClone<T>(value: T): T;

/** Base64 to a text of bytes (one character each), and back. */
declare function atob(base64: string): string;
declare function btoa(bytes: string): string;

declare const performance: {
  /** Milliseconds in steps of a tenth, that never go backwards. */
  now(): number;
};

declare class TextEncoder {
  readonly encoding: 'utf-8';
  encode(text?: string): Uint8Array;
  encodeInto(text: string, target: Uint8Array): { read: number; written: number };
}

/** UTF-8 only, and whole texts only. */
declare class TextDecoder {
  constructor(label?: 'utf-8' | 'utf8', options?: { fatal?: boolean; ignoreBOM?: boolean });
  readonly encoding: 'utf-8';
  readonly fatal: boolean;
  readonly ignoreBOM: boolean;
  decode(bytes?: ArrayBuffer | ArrayBufferView): string;
}

/**
 * Makes a request to a host that the script's `fetch_allow` names, from the server. Whole bodies only,
 * at most 1 MiB to send and 5 MiB to receive. At most 20 in a run, 6 at once, each within the run's time.
 *
 * A run may happen more than once: give `idempotencyKey` to what you call.
 *
 * @example
 * const response = await fetch('https://api.example.com/charges', {
 *   method: 'POST',
 *   headers: { authorization: `Bearer ${await sdk.secrets.get('api_key')}`, 'idempotency-key': context.idempotencyKey },
 *   body: JSON.stringify(charge),
 *   signal: AbortSignal.timeout(3000),
 * });
 * if (!response.ok) throw new Error(`charge: ${response.status} ${await response.text()}`);
 */
declare function fetch(input: string | URL | Request, init?: RequestInit): Promise<Response>;

type BodyInit = string | URLSearchParams | BufferSource | null;
type HeadersInit = Headers | Record<string, string> | Iterable<[string, string]>;

interface RequestInit {
  method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'OPTIONS';
  headers?: HeadersInit;
  body?: BodyInit;
  redirect?: 'follow' | 'error' | 'manual';
  signal?: AbortSignal;
}

declare class Headers implements Iterable<[string, string]> {
  constructor(init?: HeadersInit);
  append(name: string, value: string): void;
  delete(name: string): void;
  get(name: string): string | null;
  getSetCookie(): string[];
  has(name: string): boolean;
  set(name: string, value: string): void;
  forEach(callback: (value: string, name: string, headers: Headers) => void): void;
  entries(): IterableIterator<[string, string]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  [Symbol.iterator](): IterableIterator<[string, string]>;
}

interface Body {
  readonly bodyUsed: boolean;
  readonly headers: Headers;
  arrayBuffer(): Promise<ArrayBuffer>;
  bytes(): Promise<Uint8Array>;
  json(): Promise<any>;
  text(): Promise<string>;
}

interface Request extends Body {}
declare class Request {
  constructor(input: string | URL | Request, init?: RequestInit);
  readonly url: string;
  readonly method: string;
  readonly redirect: 'follow' | 'error' | 'manual';
  readonly signal: AbortSignal;
  clone(): Request;
}

interface Response extends Body {}
declare class Response {
  constructor(body?: BodyInit, init?: { status?: number; statusText?: string; headers?: HeadersInit });
  static json(data: unknown, init?: { status?: number; statusText?: string; headers?: HeadersInit }): Response;
  readonly status: number;
  readonly statusText: string;
  readonly ok: boolean;
  /** After redirects. */
  readonly url: string;
  readonly redirected: boolean;
  readonly type: string;
  clone(): Response;
}

/** Random values, digests and HMAC as the web has them; no other algorithms. */
declare const crypto: {
  /** A random id, version 4. */
  randomUUID(): string;
  /** Fills an array of integers with values that nobody can guess. At most 65,536 bytes. */
  getRandomValues<T extends ArrayBufferView>(array: T): T;
  readonly subtle: {
    /**
     * @example
     * const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
     */
    digest(algorithm: HashName | { name: HashName }, data: BufferSource): Promise<ArrayBuffer>;
    /** A HMAC key from its bytes. */
    importKey(format: 'raw', data: BufferSource, algorithm: HmacKeyAlgorithm, extractable: boolean, usages: ('sign' | 'verify')[]): Promise<CryptoKey>;
    generateKey(algorithm: HmacKeyAlgorithm & { length?: number }, extractable: boolean, usages: ('sign' | 'verify')[]): Promise<CryptoKey>;
    exportKey(format: 'raw', key: CryptoKey): Promise<ArrayBuffer>;
    sign(algorithm: 'HMAC' | { name: 'HMAC' }, key: CryptoKey, data: BufferSource): Promise<ArrayBuffer>;
    /** Compares in constant time. */
    verify(algorithm: 'HMAC' | { name: 'HMAC' }, key: CryptoKey, signature: BufferSource, data: BufferSource): Promise<boolean>;
  };
};

type BufferSource = ArrayBuffer | ArrayBufferView;
type HashName = 'SHA-1' | 'SHA-256' | 'SHA-384' | 'SHA-512';
interface HmacKeyAlgorithm { name: 'HMAC'; hash: HashName | { name: HashName } }

/** A key whose bytes stay with the host unless it is extractable. Frozen. */
declare class CryptoKey {
  private constructor();
  readonly type: 'secret';
  readonly extractable: boolean;
  readonly algorithm: { readonly name: 'HMAC'; readonly hash: { readonly name: HashName }; readonly length: number };
  readonly usages: readonly ('sign' | 'verify')[];
}

declare class URL {
  constructor(url: string | URL, base?: string | URL);
  static canParse(url: string | URL, base?: string | URL): boolean;
  static parse(url: string | URL, base?: string | URL): URL | null;
  href: string;
  readonly origin: string;
  protocol: string;
  username: string;
  password: string;
  host: string;
  hostname: string;
  port: string;
  pathname: string;
  search: string;
  hash: string;
  readonly searchParams: URLSearchParams;
  toString(): string;
  toJSON(): string;
}

declare class URLSearchParams implements Iterable<[string, string]> {
  constructor(init?: string | Record<string, string> | Iterable<[string, string]>);
  readonly size: number;
  append(name: string, value: string): void;
  delete(name: string, value?: string): void;
  get(name: string): string | null;
  getAll(name: string): string[];
  has(name: string, value?: string): boolean;
  set(name: string, value: string): void;
  sort(): void;
  forEach(callback: (value: string, name: string, params: URLSearchParams) => void): void;
  entries(): IterableIterator<[string, string]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  [Symbol.iterator](): IterableIterator<[string, string]>;
  toString(): string;
}

declare class AbortController {
  readonly signal: AbortSignal;
  abort(reason?: unknown): void;
}

declare class AbortSignal {
  private constructor();
  static abort(reason?: unknown): AbortSignal;
  static timeout(ms: number): AbortSignal;
  /** Aborts with the first of these. */
  static any(signals: Iterable<AbortSignal>): AbortSignal;
  readonly aborted: boolean;
  readonly reason: unknown;
  onabort: ((event: { readonly type: 'abort'; readonly target: AbortSignal }) => void) | null;
  throwIfAborted(): void;
  addEventListener(type: 'abort', listener: (event: { readonly type: 'abort'; readonly target: AbortSignal }) => void): void;
  removeEventListener(type: 'abort', listener: (event: { readonly type: 'abort'; readonly target: AbortSignal }) => void): void;
}

declare class DOMException extends Error {
  constructor(message?: string, name?: string);
  readonly code: number;
}
