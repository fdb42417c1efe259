/**
 * Paths to screens, and the query of the URL as state.
 *
 * Our own hundred lines: the routers for Svelte 5 that were looked at take Ctrl+click for a click, or
 * turn the query's `007` into 7, and none works below a prefix that is known only at run time.
 */
import { base } from './base';

/** `/events/:uid` and the like. */
export type Pattern = `/${string}`;

type Names<P extends string> = P extends `${string}:${infer Name}/${infer Rest}`
  ? Name | Names<Rest>
  : P extends `${string}:${infer Name}`
    ? Name
    : never;

export type Params<P extends string> = Record<Names<P>, string>;

export type QueryValues = Record<string, string | number | boolean | null | undefined>;

/** Asked before the place is left; false stays. */
type Guard = () => boolean | Promise<boolean>;

class Place {
  /** Without the prefix, always with a leading slash. */
  path = $state('/');
  query = $state.raw(new URLSearchParams());
  /** Grows with every navigation, so that focus and scroll can follow. */
  visits = $state(0);

  #guard: Guard | null = null;
  /** Number of the history entry in view: tells back from forward. */
  #index = 0;
  #ignorePop = false;
  #isReturning = false;

  /** Reads the address bar and follows links; call once. */
  start(): void {
    this.#index = indexOf(history.state) ?? 0;
    history.replaceState({ ...history.state, index: this.#index }, '');
    this.#read();
    addEventListener('popstate', (event) => void this.#popped(event));
    document.addEventListener('click', (event) => this.#clicked(event));
  }

  /** Goes to a path of ours, such as `href('/events/:uid', { uid })`. */
  async go(url: string, how: { replace?: boolean } = {}): Promise<void> {
    if (this.#guard && !(await this.#guard())) return;
    this.#guard = null;
    this.#write(url, how.replace ?? false);
    this.visits += 1;
    scrollTo(0, 0);
  }

  /** Changes parts of the query and stays; empty values are taken out. */
  setQuery(values: QueryValues, how: { push?: boolean } = {}): void {
    const query = merged(this.query, values);
    if (query.toString() === this.query.toString()) return;
    this.#write(base.pathname + this.path.slice(1) + suffix(query), !how.push, how.push ?? isOver());
  }

  /** Takes parts of the query out that `setQuery` pushed: one step back; of an address that was opened so, without a step. */
  takeBack(...names: string[]): void {
    if (!names.some((name) => this.query.has(name))) return;
    if (!isOver()) this.setQuery(Object.fromEntries(names.map((name) => [name, null])));
    else if (!this.#isReturning) {
      this.#isReturning = true;
      history.back();
    }
  }

  /** Asks `guard` before this place is left; the returned function takes it off again. */
  guardLeaving(guard: Guard): () => void {
    this.#guard = guard;
    return () => {
      if (this.#guard === guard) this.#guard = null;
    };
  }

  /** `over`: the entry before it is the same place with another query. */
  #write(url: string, replace: boolean, over = false): void {
    if (!replace) this.#index += 1;
    history[replace ? 'replaceState' : 'pushState']({ index: this.#index, over }, '', url);
    this.#read();
  }

  #read(): void {
    this.path = pathNow();
    this.query = new URLSearchParams(location.search);
  }

  async #popped(event: PopStateEvent): Promise<void> {
    if (this.#ignorePop) {
      this.#ignorePop = false;
      return;
    }
    this.#isReturning = false;
    const index = indexOf(event.state) ?? 0;
    if (pathNow() === this.path) {
      // Nobody leaves: a dialog is closed, or opened again.
      this.#index = index;
      this.#read();
      return;
    }
    if (this.#guard && !(await this.#guard())) {
      this.#ignorePop = true;
      history.go(this.#index - index);
      return;
    }
    this.#guard = null;
    this.#index = index;
    this.#read();
    this.visits += 1;
  }

  #clicked(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (!link?.href || link.target || link.hasAttribute('download') || link.rel === 'external') return;
    const url = new URL(link.href);
    const isOurs = url.origin === base.origin && url.pathname.startsWith(base.pathname);
    const isServers = url.pathname.startsWith(`${base.pathname}api/`);
    const isHere = url.hash !== '' && url.pathname === location.pathname && url.search === location.search;
    if (!isOurs || isServers || isHere) return;
    event.preventDefault();
    void this.go(url.pathname + url.search + url.hash);
  }
}

export const place = new Place();

/** An address for links and `place.go`, typed by its pattern's names. */
export function href<P extends Pattern>(
  pattern: P,
  ...[params, query]: Names<P> extends never ? [params?: null, query?: QueryValues] : [params: Params<P>, query?: QueryValues]
): string {
  const path = pattern.replace(/:(\w+)/g, (_, name: string) =>
    encodeURIComponent((params as Record<string, string>)[name] ?? ''),
  );
  return base.pathname + path.slice(1) + suffix(merged(new URLSearchParams(), query ?? {}));
}

/** The values of a pattern's names in a path, or null if it is another path. */
export function match(pattern: string, path: string): Record<string, string> | null {
  const wanted = pattern.split('/');
  const found = path.split('/');
  if (wanted.length !== found.length) return null;
  const params: Record<string, string> = {};
  for (const [at, part] of wanted.entries()) {
    const value = found[at] ?? '';
    if (part.startsWith(':')) {
      if (value === '') return null;
      params[part.slice(1)] = decode(value);
    } else if (part !== value) return null;
  }
  return params;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function merged(query: URLSearchParams, values: QueryValues): URLSearchParams {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined || value === null || value === '' || value === false) next.delete(name);
    else next.set(name, String(value));
  }
  return next;
}

function suffix(query: URLSearchParams): string {
  const text = query.toString();
  return text && `?${text}`;
}

function pathNow(): string {
  const { pathname } = location;
  const inside = pathname.startsWith(base.pathname) ? pathname.slice(base.pathname.length) : '';
  return `/${inside.replace(/\/+$/, '')}`;
}

function isOver(): boolean {
  return (history.state as { over?: boolean } | null)?.over ?? false;
}

function indexOf(state: unknown): number | undefined {
  return (state as { index?: number } | null)?.index;
}
