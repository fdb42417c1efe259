// sdk.kv: values as JSON texts, own writes first, everything else asked of the parent.
(native, ask, span) => {
  'use strict';
  const { freeze } = Object;
  const { isFinite } = Number;
  const { parse, stringify } = JSON;

  const keyOf = (key, what) => {
    if (typeof key !== 'string') throw new TypeError(`${what}: expected the key as a text, found ${typeof key}`);
    return key;
  };
  const optional = (options, what) => {
    if (options === undefined || options === null) return { __proto__: null };
    if (typeof options !== 'object') throw new TypeError(`${what}: expected the options as an object, found ${typeof options}`);
    return options;
  };
  const take = (refusal, what) => { if (refusal !== undefined) throw new Error(`${what}: ${refusal}`); };

  const of = (space) => {
    const textOf = async (key, what) => {
      const known = native.kvKnown(space, key);
      return known === undefined ? ask(native.kvGet(space, key, what)) : known;
    };
    const valueOf = (text) => (text === null || text === undefined ? undefined : parse(text));
    return freeze({
      async get(key) {
        return valueOf(await textOf(keyOf(key, 'sdk.kv.get'), 'sdk.kv.get'));
      },
      async set(key, value, options) {
        const what = `sdk.kv.set(${stringify(keyOf(key, 'sdk.kv.set'))})`;
        const { ttl } = optional(options, what);
        const ms = ttl === undefined || ttl === null ? undefined : span(ttl, `${what}: options.ttl`);
        const text = stringify(value);
        if (text === undefined) throw new TypeError(`${what}: the value is no JSON: found ${typeof value}`);
        take(native.kvSet(space, key, text, ms), what);
      },
      async increment(key, by = 1) {
        const what = `sdk.kv.increment(${stringify(keyOf(key, 'sdk.kv.increment'))})`;
        if (!isFinite(by)) throw new TypeError(`${what}: expected a number, found ${typeof by}`);
        await textOf(key, what);
        // What is known now, not what the answer was: another call of this run may have come first.
        const before = valueOf(native.kvKnown(space, key)) ?? 0;
        if (typeof before !== 'number') throw new TypeError(`${what}: the value is no number`);
        const after = before + by;
        if (!isFinite(after)) throw new RangeError(`${what}: the sum is out of range`);
        take(native.kvAdd(space, key, stringify(after)), what);
        return after;
      },
      async remove(key) {
        take(native.kvRemove(space, keyOf(key, 'sdk.kv.remove')), 'sdk.kv.remove');
      },
      async list(options) {
        const { prefix = '', after, limit = 100 } = optional(options, 'sdk.kv.list');
        if (typeof prefix !== 'string' || (after !== undefined && typeof after !== 'string') || typeof limit !== 'number') {
          throw new TypeError('sdk.kv.list: expected { prefix?: text, after?: text, limit?: number }');
        }
        const items = await ask(native.kvList(space, prefix, after, limit));
        return items.map(([key, text]) => ({ key, value: parse(text) }));
      },
    });
  };

  const own = of(undefined);
  return freeze({
    ...own,
    shared(name) {
      if (typeof name !== 'string') throw new TypeError(`sdk.kv.shared: expected a name, found ${typeof name}`);
      native.kvSpace(name);
      return of(name);
    },
  });
}
