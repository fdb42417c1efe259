// fetch with Request, Response and Headers, as far as handlers use them: whole bodies, no streams.
// The parent makes the request; this is the shape.
(native, ask) => {
  'use strict';
  const { freeze } = Object;
  const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
  const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

  const nameOf = (name) => {
    const text = String(name);
    if (!NAME.test(text)) throw new TypeError(`Headers: ${JSON.stringify(text)} is no name of a header`);
    return text.toLowerCase();
  };
  const valueOf = (value) => {
    const text = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, '');
    if (/[^\t\x20-\x7e\x80-\xff]/.test(text)) throw new TypeError(`Headers: ${JSON.stringify(text)} is no value of a header`);
    return text;
  };

  class Headers {
    #pairs = [];
    constructor(init) {
      if (init === undefined || init === null) return;
      const pairs = init instanceof Headers ? init.#pairs
        : typeof init[Symbol.iterator] === 'function' ? init : Object.entries(init);
      for (const [name, value] of pairs) this.append(name, value);
    }
    append(name, value) { this.#pairs.push([nameOf(name), valueOf(value)]); }
    delete(name) { const key = nameOf(name); this.#pairs = this.#pairs.filter((pair) => pair[0] !== key); }
    get(name) {
      const key = nameOf(name);
      const values = this.#pairs.filter((pair) => pair[0] === key).map((pair) => pair[1]);
      return values.length === 0 ? null : values.join(', ');
    }
    getSetCookie() { return this.#pairs.filter((pair) => pair[0] === 'set-cookie').map((pair) => pair[1]); }
    has(name) { const key = nameOf(name); return this.#pairs.some((pair) => pair[0] === key); }
    set(name, value) { const [key, text] = [nameOf(name), valueOf(value)]; this.delete(key); this.#pairs.push([key, text]); }
    forEach(callback, self) { for (const [name, value] of this) callback.call(self, value, name, this); }
    *entries() {
      for (const name of [...new Set(this.#pairs.map((pair) => pair[0]))].sort()) {
        if (name === 'set-cookie') for (const value of this.getSetCookie()) yield [name, value];
        else yield [name, this.get(name)];
      }
    }
    *keys() { for (const [name] of this.entries()) yield name; }
    *values() { for (const [, value] of this.entries()) yield value; }
    [Symbol.iterator]() { return this.entries(); }
    get [Symbol.toStringTag]() { return 'Headers'; }
  }

  // A body as bytes, and the type that it brings.
  const bytesOf = (body) => {
    if (body === undefined || body === null) return [undefined, undefined];
    if (typeof body === 'string') return [native.encode(body), 'text/plain;charset=UTF-8'];
    if (body instanceof URLSearchParams) return [native.encode(body.toString()), 'application/x-www-form-urlencoded;charset=UTF-8'];
    if (body instanceof ArrayBuffer) return [new Uint8Array(body).slice(), undefined];
    if (ArrayBuffer.isView(body)) return [new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice(), undefined];
    throw new TypeError('fetch: expected the body as a text, URLSearchParams, an ArrayBuffer or a view of one');
  };

  class Body {
    #bytes;
    #used = false;
    headers;
    constructor(body, headers) {
      const [bytes, type] = bytesOf(body);
      this.#bytes = bytes;
      this.headers = headers;
      if (type !== undefined && !headers.has('content-type')) headers.set('content-type', type);
    }
    get bodyUsed() { return this.#used; }
    #take() {
      if (this.#used) throw new TypeError('the body was read already; clone() before reading to read it twice');
      this.#used = this.#bytes !== undefined;
      return this.#bytes ?? new Uint8Array(0);
    }
    async arrayBuffer() { return this.#take().slice().buffer; }
    async bytes() { return this.#take().slice(); }
    async text() {
      const text = native.decode(this.#take(), false);
      return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
    }
    async json() { return JSON.parse(await this.text()); }
    static peek(body) {
      if (body.#used) throw new TypeError('the body was read already');
      return body.#bytes;
    }
  }

  class Request extends Body {
    constructor(input, init = {}) {
      const from = input instanceof Request ? input : undefined;
      const url = new URL(from === undefined ? String(input) : from.url);
      if (url.username !== '' || url.password !== '') throw new TypeError('fetch: a URL with a user name or password; use the header Authorization');
      const method = String(init.method ?? from?.method ?? 'GET').toUpperCase();
      if (!METHODS.includes(method)) throw new TypeError(`fetch: expected one of ${METHODS.join(', ')} as method, found ${JSON.stringify(method)}`);
      const body = init.body ?? (from === undefined ? undefined : Body.peek(from));
      if (body !== undefined && body !== null && (method === 'GET' || method === 'HEAD')) throw new TypeError(`fetch: ${method} has no body`);
      const redirect = init.redirect ?? from?.redirect ?? 'follow';
      if (!['follow', 'error', 'manual'].includes(redirect)) throw new TypeError(`fetch: expected redirect as "follow", "error" or "manual", found ${JSON.stringify(redirect)}`);
      super(body, new Headers(init.headers ?? from?.headers));
      this.url = url.href;
      this.method = method;
      this.redirect = redirect;
      this.signal = init.signal ?? from?.signal ?? new AbortController().signal;
    }
    clone() { return new Request(this); }
    get [Symbol.toStringTag]() { return 'Request'; }
  }

  const NULL_BODY = [101, 103, 204, 205, 304];
  class Response extends Body {
    constructor(body, init = {}) {
      const status = init.status ?? 200;
      if (!(Number.isInteger(status) && status >= 200 && status <= 599)) throw new RangeError(`Response: expected a status of 200 to 599, found ${status}`);
      if (NULL_BODY.includes(status) && body !== undefined && body !== null) throw new TypeError(`Response: ${status} has no body`);
      super(body, new Headers(init.headers));
      this.status = status;
      this.statusText = String(init.statusText ?? '');
      this.url = '';
      this.redirected = false;
      this.type = 'default';
    }
    get ok() { return this.status >= 200 && this.status <= 299; }
    clone() {
      const copy = new Response(Body.peek(this), this);
      [copy.url, copy.redirected, copy.type] = [this.url, this.redirected, this.type];
      return copy;
    }
    static json(data, init = {}) {
      const headers = new Headers(init.headers);
      if (!headers.has('content-type')) headers.set('content-type', 'application/json');
      return new Response(JSON.stringify(data), { ...init, headers });
    }
    get [Symbol.toStringTag]() { return 'Response'; }
  }

  const responseOf = ([status, statusText, url, redirected, headers, body]) => {
    const response = new Response(NULL_BODY.includes(status) ? undefined : body, { status, statusText, headers });
    return Object.assign(response, { url, redirected, type: 'basic' });
  };

  const fetch = async (input, init) => {
    const request = new Request(input, init);
    const { signal } = request;
    signal.throwIfAborted();
    const call = native.fetch(request.method, request.url, [...request.headers], Body.peek(request), request.redirect);
    const answer = ask(call);
    let stop;
    const aborted = new Promise((_, reject) => {
      stop = () => reject(signal.reason);
      signal.addEventListener('abort', stop);
    });
    try {
      return responseOf(await Promise.race([answer, aborted]));
    } finally {
      signal.removeEventListener('abort', stop);
    }
  };

  return { fetch: freeze(fetch), Headers, Request, Response };
}
