// The small parts of the web platform that scripts expect: text coding, deep copies, aborting.
(native) => {
  'use strict';
  const { defineProperty, freeze } = Object;

  class TextEncoder {
    get encoding() { return 'utf-8'; }
    encode(text = '') { return native.encode(String(text)); }
    encodeInto(text, target) {
      const source = String(text);
      let read = 0, written = 0;
      for (const char of source) {
        const bytes = native.encode(char);
        if (written + bytes.length > target.length) break;
        target.set(bytes, written);
        written += bytes.length;
        read += char.length;
      }
      return { read, written };
    }
  }

  class TextDecoder {
    #fatal;
    #keepBom;
    constructor(label = 'utf-8', options = {}) {
      if (!['utf-8', 'utf8', 'unicode-1-1-utf-8'].includes(String(label).trim().toLowerCase())) {
        throw new RangeError(`TextDecoder: expected "utf-8", found ${JSON.stringify(label)}`);
      }
      this.#fatal = Boolean(options.fatal);
      this.#keepBom = Boolean(options.ignoreBOM);
    }
    get encoding() { return 'utf-8'; }
    get fatal() { return this.#fatal; }
    get ignoreBOM() { return this.#keepBom; }
    decode(bytes, options) {
      if (options?.stream) throw new TypeError('TextDecoder: decoding in pieces is not supported here');
      if (bytes === undefined) return '';
      const view = bytes instanceof ArrayBuffer ? new Uint8Array(bytes)
        : ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
        : undefined;
      if (view === undefined) throw new TypeError('TextDecoder: expected an ArrayBuffer or a view of one');
      const text = native.decode(view, this.#fatal);
      if (text === undefined) throw new TypeError('TextDecoder: the bytes are no UTF-8');
      return !this.#keepBom && text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
    }
  }

  const uncloneable = (value) => new DOMException(`${typeof value === 'symbol' ? 'a symbol' : `a ${typeof value}`} cannot be cloned`, 'DataCloneError');
  const clone = (value, seen) => {
    if (typeof value === 'function' || typeof value === 'symbol') throw uncloneable(value);
    if (typeof value !== 'object' || value === null) return value;
    const known = seen.get(value);
    if (known !== undefined) return known;
    const keep = (copy) => { seen.set(value, copy); return copy; };
    if (value instanceof Boolean || value instanceof Number || value instanceof String) return keep(Object(value.valueOf()));
    if (value instanceof Date) return keep(new Date(value.getTime()));
    if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
    if (value instanceof ArrayBuffer) return keep(value.slice(0));
    if (ArrayBuffer.isView(value)) {
      const buffer = clone(value.buffer, seen);
      const length = value instanceof DataView ? value.byteLength : value.length;
      return keep(new value.constructor(buffer, value.byteOffset, length));
    }
    if (value instanceof Map) {
      const copy = keep(new Map());
      for (const [key, item] of [...value]) copy.set(clone(key, seen), clone(item, seen));
      return copy;
    }
    if (value instanceof Set) {
      const copy = keep(new Set());
      for (const item of [...value]) copy.add(clone(item, seen));
      return copy;
    }
    if (value instanceof Error) {
      const type = { EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError }[value.name] ?? Error;
      const copy = keep(Object.create(type.prototype));
      for (const key of ['message', 'stack', 'cause']) {
        const field = Object.getOwnPropertyDescriptor(value, key);
        if (field !== undefined && 'value' in field) {
          defineProperty(copy, key, { ...field, value: clone(field.value, seen) });
        }
      }
      return copy;
    }
    if (value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef) {
      throw uncloneable(value);
    }
    const copy = keep(Array.isArray(value) ? new Array(value.length) : {});
    for (const key of Object.keys(value)) {
      defineProperty(copy, key, { value: clone(value[key], seen), writable: true, enumerable: true, configurable: true });
    }
    return copy;
  };
  const structuredClone = (value) => clone(value, new Map());

  const secret = Symbol('made by a controller');
  let abortSignal;
  class AbortSignal {
    #aborted = false;
    #reason;
    #listeners = [];
    onabort = null;
    constructor(key) { if (key !== secret) throw new TypeError('AbortSignal: use new AbortController().signal'); }
    get aborted() { return this.#aborted; }
    get reason() { return this.#reason; }
    throwIfAborted() { if (this.#aborted) throw this.#reason; }
    addEventListener(type, listener) {
      if (type === 'abort' && !this.#listeners.includes(listener)) this.#listeners.push(listener);
    }
    removeEventListener(type, listener) { this.#listeners = this.#listeners.filter((other) => other !== listener); }
    static abort(reason) { const controller = new AbortController(); controller.abort(reason); return controller.signal; }
    static timeout(ms) {
      const controller = new AbortController();
      setTimeout(() => controller.abort(new DOMException('the time is over', 'TimeoutError')), ms);
      return controller.signal;
    }
    static any(signals) {
      const controller = new AbortController();
      for (const signal of signals) {
        if (signal.aborted) { controller.abort(signal.reason); break; }
        signal.addEventListener('abort', () => controller.abort(signal.reason));
      }
      return controller.signal;
    }
    static #fire(signal, reason) {
      if (signal.#aborted) return;
      signal.#aborted = true;
      signal.#reason = reason;
      const event = freeze({ type: 'abort', target: signal });
      for (const listener of [signal.onabort, ...signal.#listeners]) {
        if (typeof listener === 'function') listener.call(signal, event);
        else if (typeof listener?.handleEvent === 'function') listener.handleEvent(event);
      }
    }
    static { abortSignal = AbortSignal.#fire; }
  }

  class AbortController {
    #signal = new AbortSignal(secret);
    get signal() { return this.#signal; }
    abort(reason = new DOMException('the operation was aborted', 'AbortError')) { abortSignal(this.#signal, reason); }
  }

  return { AbortController, AbortSignal, TextDecoder, TextEncoder, structuredClone };
}
