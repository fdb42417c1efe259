/**
 * A small client for the API, typed by the OpenAPI document.
 *
 * `api.get('/api/v1/events/{uid}', { path: { uid } })` answers with the body's type. Every failure is
 * a `Problem`. Bodies are read and written without losing digits (`json.ts`).
 */
import { base } from '../router/base';
import { parseAnswer, printJson } from './json';
import { Problem } from './problem';
import type { paths } from './schema';

type Method = 'get' | 'post' | 'put' | 'patch' | 'delete';

/** Paths that know a method. */
type PathOf<M extends Method> = {
  [P in keyof paths]: paths[P] extends Record<M, { responses: unknown }> ? P : never;
}[keyof paths];

type Operation<P extends keyof paths, M extends Method> = paths[P][M];

type Parameter<O, In extends 'path' | 'query'> = O extends { parameters: Record<In, infer V> } ? V : undefined;

type BodyOf<O> = O extends { requestBody?: infer R }
  ? [R] extends [never]
    ? never
    : NonNullable<R> extends { content: { 'application/json': infer B } }
      ? B
      : never
  : never;

type Success<O> = O extends { responses: infer R } ? R[keyof R & (200 | 201 | 202 | 204)] : never;

/** Body of the first success that has one. */
export type Answer<O> = Success<O> extends { content: { 'application/json': infer B } } ? B : void;

export type Query<P extends PathOf<'get'>> = NonNullable<
  Operation<P, 'get'> extends { parameters: { query?: infer Q } } ? Q : never
>;

type PathArgument<O> = Parameter<O, 'path'> extends undefined ? { path?: undefined } : { path: Parameter<O, 'path'> };

type QueryArgument<O> = O extends { parameters: { query?: infer Q } } ? { query?: Q } : { query?: undefined };

type Options<O> = PathArgument<O> &
  QueryArgument<O> & {
    body?: BodyOf<O>;
    /** ETag of the version that is changed; 412 `outdated` when somebody else was faster. */
    ifMatch?: string;
    signal?: AbortSignal;
  };

type Arguments<O> = Parameter<O, 'path'> extends undefined ? [options?: Options<O>] : [options: Options<O>];

export interface Reply<T> {
  value: T;
  etag: string | null;
}

interface Request {
  path?: unknown;
  query?: unknown;
  body?: unknown;
  ifMatch?: string;
  signal?: AbortSignal;
}

/** Hears of every answer 401: the session is over. */
let onUnauthorized = (): void => {};

export function whenUnauthorized(listener: () => void): void {
  onUnauthorized = listener;
}

/** The address of an API path, with the prefix the dashboard lives under. */
export function urlOf(template: string, path?: unknown, query?: unknown): URL {
  const filled = template.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(String((path as Record<string, unknown>)[name])),
  );
  const url = new URL(filled.slice(1), base);
  for (const [name, value] of Object.entries((query ?? {}) as Record<string, unknown>)) {
    if (value !== undefined && value !== null && value !== '') url.searchParams.set(name, String(value));
  }
  return url;
}

async function send(method: Method, template: string, request: Request): Promise<Reply<unknown>> {
  const headers = new Headers({ accept: 'application/json' });
  if (request.body !== undefined) headers.set('content-type', 'application/json');
  if (request.ifMatch) headers.set('if-match', request.ifMatch);
  let response: Response;
  let text: string;
  try {
    response = await fetch(urlOf(template, request.path, request.query), {
      method: method.toUpperCase(),
      headers,
      body: request.body === undefined ? undefined : printJson(request.body),
      signal: request.signal,
      credentials: 'same-origin',
    });
    if (!response.ok) {
      const problem = await Problem.of(response);
      if (problem.status === 401) onUnauthorized();
      throw problem;
    }
    text = await response.text();
  } catch (error) {
    if (error instanceof Problem || (error instanceof DOMException && error.name === 'AbortError')) throw error;
    throw Problem.offline(error);
  }
  const isJson = response.headers.get('content-type')?.includes('json') ?? false;
  return { value: isJson ? parseAnswer(text) : text || undefined, etag: response.headers.get('etag') };
}

function sender<M extends Method>(method: M) {
  return async <P extends PathOf<M>>(path: P, ...[options]: Arguments<Operation<P, M>>): Promise<Answer<Operation<P, M>>> => {
    const reply = await send(method, path, (options ?? {}) as Request);
    return reply.value as Answer<Operation<P, M>>;
  };
}

export const api = {
  get: sender('get'),
  post: sender('post'),
  put: sender('put'),
  patch: sender('patch'),
  delete: sender('delete'),

  /** Like `get`, with the ETag that guards a later `patch`. */
  async read<P extends PathOf<'get'>>(path: P, ...[options]: Arguments<Operation<P, 'get'>>): Promise<Reply<Answer<Operation<P, 'get'>>>> {
    return (await send('get', path, (options ?? {}) as Request)) as Reply<Answer<Operation<P, 'get'>>>;
  },

  /** A text answer, such as `/api/v1/sdk.d.ts`. */
  async text(path: PathOf<'get'>, signal?: AbortSignal): Promise<string> {
    return String((await send('get', path, { signal })).value ?? '');
  },
};
