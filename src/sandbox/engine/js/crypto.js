// Web Crypto, as far as event handlers use it: random values, digests, HMAC. The host computes
// (RustCrypto's crates); this is the shape.
(native) => {
  'use strict';
  const { freeze } = Object;
  const HASHES = ['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'];
  // Bytes of a block: the length of a generated key.
  const BLOCKS = { 'SHA-1': 64, 'SHA-256': 64, 'SHA-384': 128, 'SHA-512': 128 };
  const FILLED_MAX = 65_536;
  const INTEGERS = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array, BigUint64Array];

  const fail = (what, name) => { throw new DOMException(what, name); };
  const bytesOf = (data, what) => {
    if (data instanceof ArrayBuffer) return new Uint8Array(data);
    if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    throw new TypeError(`${what}: expected an ArrayBuffer or a view of one (new TextEncoder().encode(text) makes one of a text)`);
  };
  const nameOf = (algorithm) => String(typeof algorithm === 'object' && algorithm !== null ? algorithm.name : algorithm).toUpperCase();
  const hashOf = (algorithm, what) => {
    const name = nameOf(algorithm);
    return HASHES.includes(name) ? name : fail(`${what}: expected one of ${HASHES.join(', ')}, found ${name}`, 'NotSupportedError');
  };
  const hmacOnly = (algorithm, what) => {
    if (nameOf(algorithm) !== 'HMAC') fail(`${what}: only HMAC is supported here, found ${nameOf(algorithm)}`, 'NotSupportedError');
  };
  const usagesOf = (usages, what) => {
    const asked = [...usages];
    const wrong = asked.find((usage) => usage !== 'sign' && usage !== 'verify');
    if (wrong !== undefined) fail(`${what}: a HMAC key is for "sign" and "verify", not for ${JSON.stringify(wrong)}`, 'SyntaxError');
    if (asked.length === 0) fail(`${what}: expected at least one of "sign" and "verify"`, 'SyntaxError');
    return freeze(['sign', 'verify'].filter((usage) => asked.includes(usage)));
  };

  let secretOf;
  const made = Symbol('made by crypto.subtle');
  class CryptoKey {
    #bytes;
    constructor(key, bytes, hash, extractable, usages) {
      if (key !== made) throw new TypeError('CryptoKey: use crypto.subtle.importKey or generateKey');
      this.#bytes = bytes;
      this.type = 'secret';
      this.extractable = extractable;
      this.algorithm = freeze({ name: 'HMAC', hash: freeze({ name: hash }), length: bytes.length * 8 });
      this.usages = usages;
      freeze(this);
    }
    static { secretOf = (key, what) => {
      if (typeof key !== 'object' || key === null || !(#bytes in key)) throw new TypeError(`${what}: expected a CryptoKey`);
      return key.#bytes;
    }; }
    get [Symbol.toStringTag]() { return 'CryptoKey'; }
  }
  freeze(CryptoKey.prototype);
  const keyFor = (usage, key, what) => {
    const bytes = secretOf(key, what);
    if (!key.usages.includes(usage)) fail(`${what}: the key is not for "${usage}"`, 'InvalidAccessError');
    return bytes;
  };

  // Async, so that every refusal is a rejection.
  const subtle = freeze({
    async digest(algorithm, data) {
      return native.digest(hashOf(algorithm, 'digest'), bytesOf(data, 'digest')).buffer;
    },
    async importKey(format, data, algorithm, extractable, usages) {
      if (format !== 'raw') fail(`importKey: only the format "raw" is supported here, found ${JSON.stringify(format)}`, 'NotSupportedError');
      hmacOnly(algorithm, 'importKey');
      const bytes = bytesOf(data, 'importKey').slice();
      if (bytes.length === 0) fail('importKey: the key is empty', 'DataError');
      return new CryptoKey(made, bytes, hashOf(algorithm.hash, 'importKey'), Boolean(extractable), usagesOf(usages, 'importKey'));
    },
    async generateKey(algorithm, extractable, usages) {
      hmacOnly(algorithm, 'generateKey');
      const hash = hashOf(algorithm.hash, 'generateKey');
      const bits = algorithm.length ?? BLOCKS[hash] * 8;
      if (!(bits > 0 && bits % 8 === 0 && bits <= FILLED_MAX)) fail(`generateKey: expected a length of 8 to ${FILLED_MAX} bits in whole bytes, found ${bits}`, 'OperationError');
      return new CryptoKey(made, native.randomBytes(bits / 8), hash, Boolean(extractable), usagesOf(usages, 'generateKey'));
    },
    async exportKey(format, key) {
      if (format !== 'raw') fail(`exportKey: only the format "raw" is supported here, found ${JSON.stringify(format)}`, 'NotSupportedError');
      const bytes = secretOf(key, 'exportKey');
      if (!key.extractable) fail('exportKey: the key is not extractable', 'InvalidAccessError');
      return bytes.slice().buffer;
    },
    async sign(algorithm, key, data) {
      hmacOnly(algorithm, 'sign');
      const bytes = keyFor('sign', key, 'sign');
      return native.hmac(key.algorithm.hash.name, bytes, bytesOf(data, 'sign')).buffer;
    },
    async verify(algorithm, key, signature, data) {
      hmacOnly(algorithm, 'verify');
      const bytes = keyFor('verify', key, 'verify');
      return native.hmacVerify(key.algorithm.hash.name, bytes, bytesOf(signature, 'verify'), bytesOf(data, 'verify'));
    },
  });

  const hex = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));
  const crypto = freeze({
    subtle,
    getRandomValues(array) {
      if (!INTEGERS.some((type) => array instanceof type)) fail('getRandomValues: expected a typed array of integers', 'TypeMismatchError');
      if (array.byteLength > FILLED_MAX) fail(`getRandomValues: at most ${FILLED_MAX} bytes at once, found ${array.byteLength}`, 'QuotaExceededError');
      bytesOf(array, 'getRandomValues').set(native.randomBytes(array.byteLength));
      return array;
    },
    randomUUID() {
      const bytes = native.randomBytes(16);
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      let text = '';
      for (let i = 0; i < 16; i++) text += (i === 4 || i === 6 || i === 8 || i === 10 ? '-' : '') + hex[bytes[i]];
      return text;
    },
  });

  return { crypto, CryptoKey };
}
