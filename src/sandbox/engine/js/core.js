// The globals every runtime starts with. Called once with the doors to the host (`globals.rs`);
// answers what the engine calls back. Built-ins are taken now, before any script can replace them.
(native) => {
  'use strict';
  const { apply, construct, defineProperty, ownKeys } = Reflect;
  const { freeze, is } = Object;
  const { stringify } = JSON;
  const uncurry = (method) => (self, ...args) => apply(method, self, args);
  const join = uncurry(Array.prototype.join);
  const has = uncurry(WeakSet.prototype.has);
  const add = uncurry(WeakSet.prototype.add);
  const [mapGet, mapSet, mapDelete, mapClear] =
    ['get', 'set', 'delete', 'clear'].map((name) => uncurry(Map.prototype[name]));
  const Text = String;
  const Pending = Promise;

  const hide = (target, name, value) => {
    if (!defineProperty(target, name, { value, writable: true, enumerable: false, configurable: true })) {
      throw new TypeError(`${name} cannot be replaced`);
    }
  };
  const fix = (target, name, value) =>
    defineProperty(target, name, { value, writable: false, enumerable: true, configurable: false });

  // --- Clock and chance are the host's, so that a recorded run can be run again. ---
  const NativeDate = Date;
  function HostDate(...args) {
    if (!new.target) return new NativeDate(native.now()).toString();
    return construct(NativeDate, args.length === 0 ? [native.now()] : args, new.target);
  }
  for (const key of ownKeys(NativeDate)) {
    if (key !== 'now') defineProperty(HostDate, key, Object.getOwnPropertyDescriptor(NativeDate, key));
  }
  hide(HostDate, 'name', 'Date');
  hide(HostDate, 'now', function now() { return native.now(); });
  hide(NativeDate.prototype, 'constructor', HostDate);
  hide(globalThis, 'Date', HostDate);
  hide(Math, 'random', function random() { return native.random(); });
  // The engine's own cannot be changed, only replaced.
  const clock = {};
  hide(clock, 'now', function now() { return native.elapsed(); });
  hide(globalThis, 'performance', clock);

  // --- Loops inside these built-ins cannot be interrupted: refuse lengths nobody means. ---
  const LENGTH_MAX = 2 ** 24;
  const guard = (target, name) => {
    const method = target[name];
    if (typeof method !== 'function' || native.unguarded) return;
    const guarded = { [name](...args) {
      if (this !== null && this !== undefined && this.length > LENGTH_MAX) {
        throw new RangeError(`${name}: length ${this.length} is over the sandbox's limit of ${LENGTH_MAX}`);
      }
      return apply(method, this, args);
    } }[name];
    defineProperty(guarded, 'length', { value: method.length, configurable: true });
    hide(target, name, guarded);
  };
  for (const name of ['concat', 'copyWithin', 'fill', 'flat', 'flatMap', 'includes', 'indexOf', 'join',
    'lastIndexOf', 'reverse', 'shift', 'slice', 'sort', 'splice', 'toLocaleString', 'toReversed',
    'toSorted', 'toSpliced', 'toString', 'unshift', 'with']) {
    guard(Array.prototype, name);
  }
  const raw = Text.raw;
  hide(Text, 'raw', function raw_(strings, ...values) {
    if (strings?.raw?.length > LENGTH_MAX && !native.unguarded) {
      throw new RangeError(`raw: length ${strings.raw.length} is over the sandbox's limit of ${LENGTH_MAX}`);
    }
    return apply(raw, Text, [strings, ...values]);
  });
  hide(Text.raw, 'name', 'raw');

  // The engine calls this hook while it makes an error, the one that stops a script included: an
  // endless hook would make it unstoppable. Setting it does nothing.
  defineProperty(Error, 'prepareStackTrace', { get: () => undefined, set: () => {}, enumerable: false, configurable: false });

  // --- Errors that mean something to the retry policy. Private fields cannot be forged. ---
  let isPermanent;
  let afterOf;
  class PermanentError extends Error {
    #permanent = true;
    static {
      isPermanent = (error) => #permanent in error;
    }
  }
  class RetryError extends Error {
    #after;
    constructor(message, options) {
      super(message);
      this.#after = span(options?.after, 'new sdk.RetryError(message, { after })');
    }
    static {
      afterOf = (error) => (#after in error ? error.#after : undefined);
    }
  }
  for (const type of [PermanentError, RetryError]) {
    hide(type.prototype, 'name', type.name);
    freeze(type.prototype);
    freeze(type);
  }

  const span = (value, what) => {
    const ms = typeof value === 'number' || typeof value === 'string' ? native.span(Text(value)) : undefined;
    if (ms === undefined) {
      throw new TypeError(`${what}: expected milliseconds or a text such as "30s", "10m", "2h" or "7d", found ${show(value)}`);
    }
    return ms;
  };

  // --- Emit: an async function, so that every refusal is a rejection. ---
  const refused = new WeakSet();
  const refuse = (message) => {
    const error = new Error(message);
    add(refused, error);
    return error;
  };
  const optional = (options, name) => {
    const value = options[name];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'string' || value === '') {
      throw refuse(`sdk.events.emit: expected options.${name} to be a text, found ${show(value)}`);
    }
    return value;
  };
  const emit = async (eventType, data, options) => {
    if (typeof eventType !== 'string') {
      throw refuse(`sdk.events.emit: expected the event type as a text, found ${show(eventType)}`);
    }
    if (typeof data !== 'object' || data === null) {
      throw refuse(`sdk.events.emit("${eventType}"): expected the data as an object, found ${show(data)}`);
    }
    let id, subject, delay, text;
    if (options !== undefined && options !== null) {
      if (typeof options !== 'object') {
        throw refuse(`sdk.events.emit("${eventType}"): expected the options as an object, found ${show(options)}`);
      }
      id = optional(options, 'id');
      subject = optional(options, 'subject');
      if (options.delay !== undefined && options.delay !== null) {
        try {
          delay = span(options.delay, `sdk.events.emit("${eventType}"): options.delay`);
        } catch (error) {
          throw refuse(error.message);
        }
      }
    }
    try {
      text = stringify(data);
    } catch (error) {
      throw refuse(`sdk.events.emit("${eventType}"): the data is no JSON: ${error?.message}`);
    }
    const refusal = native.emit(eventType, text, id, subject, delay);
    if (refusal !== undefined) throw refuse(refusal);
  };

  const events = freeze({
    current() { return native.current(); },
    context() { return native.context(); },
    emit(eventType, data, options) { return emit(eventType, data, options); },
  });
  // --- Questions to the parent: the host carries them, the promises stay here. ---
  const calls = new Map();
  const ask = (call) => new Pending((resolve, reject) => mapSet(calls, call, { resolve, reject }));
  const secret = async (name) => {
    if (typeof name !== 'string') throw new TypeError(`sdk.secrets.get: expected a name, found ${show(name)}`);
    return ask(native.secret(name));
  };
  const secrets = freeze({ get(name) { return secret(name); } });
  let kv;
  fix(globalThis, 'sdk', freeze({
    events,
    secrets,
    get kv() { return kv ??= native.part('kv')(native, ask, span); },
    PermanentError,
    RetryError,
  }));

  // --- Timers: the host says when, the callbacks stay here. ---
  const timers = new Map();
  hide(globalThis, 'setTimeout', function setTimeout(callback, delay, ...args) {
    if (typeof callback !== 'function') {
      throw new TypeError(`setTimeout: expected a function, found ${show(callback)}`);
    }
    const ms = +delay;
    const id = native.sleep(ms > 0 ? ms : 0);
    mapSet(timers, id, () => apply(callback, undefined, args));
    return id;
  });
  hide(globalThis, 'clearTimeout', function clearTimeout(id) {
    if (mapDelete(timers, id)) native.cancel(id);
  });

  // --- Console: plain values are joined here; anything else needs the inspector. ---
  let inspector;
  const inspect = (value) => (inspector ??= native.part('inspect'))(value);
  const show = (value) => {
    try {
      return typeof value === 'string' ? stringify(value) : inspect(value);
    } catch {
      return typeof value;
    }
  };
  const line = (args) => {
    const parts = [];
    for (let i = 0; i < args.length; i++) {
      const value = args[i];
      const type = typeof value;
      const text = type === 'string' ? value
        : type === 'number' ? (is(value, -0) ? '-0' : Text(value))
        : type === 'boolean' || type === 'undefined' || value === null ? Text(value)
        : inspect(value);
      // Not `push`: a script may have replaced it, or put a setter on the prototype.
      defineProperty(parts, i, { value: text, writable: true, enumerable: true, configurable: true });
    }
    return join(parts, ' ');
  };
  const write = (level, args) => { if (native.logs()) native.log(level, line(args)); };
  const [DEBUG, INFO, WARN, ERROR] = [0, 1, 2, 3];
  fix(globalThis, 'console', freeze({
    debug(...args) { write(DEBUG, args); },
    log(...args) { write(INFO, args); },
    info(...args) { write(INFO, args); },
    warn(...args) { write(WARN, args); },
    error(...args) { write(ERROR, args); },
    dir(value) { write(INFO, [value]); },
    table(value) { write(INFO, [value]); },
    trace(...args) {
      const at = new Error().stack;
      write(DEBUG, ['Trace:', ...args, `\n${at}`]);
    },
    assert(condition, ...args) { if (!condition) write(ERROR, ['Assertion failed:', ...args]); },
  }));

  // --- Built when first touched: most scripts never do. ---
  const parts = { __proto__: null };
  const lazy = (part, names) => {
    for (const name of names) {
      defineProperty(globalThis, name, {
        get() {
          const made = parts[part] ??= native.part(part)(native, ask);
          hide(globalThis, name, made[name]);
          return made[name];
        },
        set(value) { hide(globalThis, name, value); },
        enumerable: false,
        configurable: true,
      });
    }
  };
  lazy('web', ['AbortController', 'AbortSignal', 'TextDecoder', 'TextEncoder', 'structuredClone']);
  lazy('url', ['URL', 'URLSearchParams']);
  lazy('fetch', ['fetch', 'Headers', 'Request', 'Response']);
  lazy('crypto', ['crypto', 'CryptoKey']);

  // --- What the engine calls. ---
  const [EXCEPTION, PERMANENT, EMIT_REJECTED, STACK_OVERFLOW] = [0, 1, 2, 3];
  const RangeFault = RangeError;
  return {
    /** Runs the callback of a timer that is due. */
    fire(id) {
      const callback = mapGet(timers, id);
      mapDelete(timers, id);
      if (callback !== undefined) callback();
    },
    /** Forgets the timers and questions that a run left open. */
    forget() { mapClear(timers); mapClear(calls); },
    /** Settles the promise of a question. */
    answer(call, value, refusal) {
      const waiting = mapGet(calls, call);
      mapDelete(calls, call);
      if (waiting === undefined) return;
      if (refusal === undefined) waiting.resolve(value);
      else waiting.reject(new Error(refusal));
    },
    /** What a thrown value means: kind, message, stack, delay of a RetryError, each or undefined. */
    judge(error) {
      if (typeof error !== 'object' || error === null) {
        return [EXCEPTION, typeof error === 'string' ? error : `threw ${show(error)}`, undefined, undefined];
      }
      const after = afterOf(error);
      let kind = isPermanent(error) ? PERMANENT : has(refused, error) ? EMIT_REJECTED : EXCEPTION;
      if (!(error instanceof Error)) return [kind, `threw ${show(error)}`, undefined, after];
      const name = Text(error.name);
      const message = Text(error.message);
      if (error instanceof RangeFault && message === 'Maximum call stack size exceeded') kind = STACK_OVERFLOW;
      const plain = name === 'Error' || kind === PERMANENT || after !== undefined;
      const text = plain ? message || name : message === '' ? name : `${name}: ${message}`;
      let stack = Text(error.stack ?? '');
      for (let cause = error.cause, depth = 0; cause !== undefined && depth < 4; cause = cause?.cause, depth++) {
        stack += `\ncaused by: ${cause instanceof Error ? `${cause.name}: ${cause.message}\n${cause.stack ?? ''}` : show(cause)}`;
      }
      return [kind, text, stack, after];
    },
  };
}
