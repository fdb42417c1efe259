// URL and URLSearchParams. The host parses (WHATWG rules, Rust's `url` crate); this is the shape.
(native) => {
  'use strict';
  // Order of the fields that `native.url` answers.
  const FIELDS = ['href', 'origin', 'protocol', 'username', 'password', 'host', 'hostname', 'port', 'pathname', 'search', 'hash'];
  let refresh;

  class URLSearchParams {
    #pairs = [];
    #url;
    constructor(init = '') {
      if (typeof init === 'object' && init !== null) {
        const pairs = typeof init[Symbol.iterator] === 'function' ? init : Object.entries(init);
        for (const pair of pairs) {
          const [name, value, ...more] = pair;
          if (value === undefined || more.length > 0) throw new TypeError('URLSearchParams: expected pairs of name and value');
          this.#pairs.push([String(name), String(value)]);
        }
      } else {
        this.#pairs = native.query(String(init).replace(/^\?/, ''));
      }
    }
    static { refresh = (params, search, url) => {
      params.#pairs = native.query(search.replace(/^\?/, ''));
      params.#url = url;
    }; }
    #changed() { if (this.#url) this.#url.search = this.toString(); }
    get size() { return this.#pairs.length; }
    append(name, value) { this.#pairs.push([String(name), String(value)]); this.#changed(); }
    delete(name, value) {
      this.#pairs = this.#pairs.filter((pair) => pair[0] !== String(name) || (value !== undefined && pair[1] !== String(value)));
      this.#changed();
    }
    get(name) { return this.#pairs.find((pair) => pair[0] === String(name))?.[1] ?? null; }
    getAll(name) { return this.#pairs.filter((pair) => pair[0] === String(name)).map((pair) => pair[1]); }
    has(name, value) { return this.#pairs.some((pair) => pair[0] === String(name) && (value === undefined || pair[1] === String(value))); }
    set(name, value) {
      const first = this.#pairs.findIndex((pair) => pair[0] === String(name));
      if (first < 0) this.#pairs.push([String(name), String(value)]);
      else {
        this.#pairs[first][1] = String(value);
        this.#pairs = this.#pairs.filter((pair, i) => i <= first || pair[0] !== String(name));
      }
      this.#changed();
    }
    sort() { this.#pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)); this.#changed(); }
    forEach(callback, self) { for (const [name, value] of this.#pairs) callback.call(self, value, name, this); }
    *entries() { for (const [name, value] of this.#pairs) yield [name, value]; }
    *keys() { for (const [name] of this.#pairs) yield name; }
    *values() { for (const [, value] of this.#pairs) yield value; }
    [Symbol.iterator]() { return this.entries(); }
    toString() { return native.form(this.#pairs); }
    get [Symbol.toStringTag]() { return 'URLSearchParams'; }
  }

  class URL {
    #fields;
    #params;
    constructor(url, base) {
      this.#fields = native.url(String(url), base === undefined ? undefined : String(base));
      if (this.#fields === undefined) {
        throw new TypeError(`URL: ${JSON.stringify(String(url))} is no absolute URL${base === undefined ? '' : ` on the base ${JSON.stringify(String(base))}`}`);
      }
    }
    static canParse(url, base) { return native.url(String(url), base === undefined ? undefined : String(base)) !== undefined; }
    static parse(url, base) { return URL.canParse(url, base) ? new URL(url, base) : null; }
    static #define(name, index) {
      Object.defineProperty(URL.prototype, name, {
        get() { return this.#fields[index]; },
        set: name === 'origin' ? undefined : function (value) {
          const changed = native.urlWith(this.#fields[0], name, String(value));
          if (changed === undefined) {
            if (name === 'href') throw new TypeError(`URL: ${JSON.stringify(String(value))} is no absolute URL`);
            return;
          }
          this.#fields = changed;
          if (this.#params !== undefined) refresh(this.#params, this.#fields[9], this);
        },
        enumerable: true,
        configurable: true,
      });
    }
    static { FIELDS.forEach((name, index) => URL.#define(name, index)); }
    get searchParams() {
      if (this.#params === undefined) {
        this.#params = new URLSearchParams();
        refresh(this.#params, this.#fields[9], this);
      }
      return this.#params;
    }
    toString() { return this.#fields[0]; }
    toJSON() { return this.#fields[0]; }
    get [Symbol.toStringTag]() { return 'URL'; }
  }

  return { URL, URLSearchParams };
}
