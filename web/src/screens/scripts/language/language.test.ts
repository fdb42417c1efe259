// @vitest-environment node
import { readFileSync } from 'node:fs';

import { describe, expect, test } from 'vitest';

import { LosslessNumber } from '../../../api/json';
import { dress } from './dress';
import { payloadType } from './infer';
import { libs } from './libs';
import { ScriptLanguage } from './service';

const sdk = readFileSync('../src/sandbox/sdk.d.ts', 'utf8');
const PAYLOAD = payloadType([{ type: 'order.placed', data: { price: 7, note: 'x' } }, { type: 'order.placed', data: { price: 8 } }]);

const MODULES = [
  { name: 'lib/digits', source: 'export const digits = 100;', language: 'javascript' as const },
  { name: 'lib/money', source: "import { digits } from 'lib/digits';\nexport const gross = (net: number): number => net * digits;", language: 'typescript' as const },
];

describe('the type of payloads', () => {
  test('names what every event has, and what some have', () => {
    expect(PAYLOAD).toBe('/** As in the last 2 stored of order.placed. */\ntype Payload = {\n  price: number;\n  note?: string;\n};\n');
  });

  test('knows lists, nulls, long numbers and odd names', () => {
    const data = { 'a-b': [1, 'x', { deep: null }], n: new LosslessNumber('9007199254740993'), none: [] };
    expect(payloadType([{ type: 'a', data }])).toContain('"a-b": (number | string | {\n    deep: null;\n  })[];');
    expect(payloadType([{ type: 'a', data }])).toContain('n: number;');
    expect(payloadType([{ type: 'a', data }])).toContain('none: any[];');
  });

  test('is anything without events, and a type cannot leave its comment', () => {
    expect(payloadType([])).toBe('type Payload = any;\n');
    expect(payloadType([{ type: 'a*/ x', data: 1 }]).match(/\*\//g)).toHaveLength(1);
  });
});

describe('what was put in', () => {
  test('is seen by nobody', () => {
    const text = 'export default p => p.price';
    const dressed = dress(text, '/script.ts');
    expect(dressed.text).toBe('export default (p: Payload) => p.price');
    for (let at = 0; at <= text.length; at += 1) expect(dressed.back(dressed.into(at))).toBe(at);
    expect(dress('export default function (p: X, { id }) {}', '/script.ts').text).toBe('export default function (p: X, { id }: EventContext) {}');
    expect(dress('export default (p) => p', '/script.js').text).toBe('export default (/** @type {Payload} */ p) => p');
    expect(dress('const x = 1', '/script.ts').text).toBe('const x = 1');
  });
});

describe('the language service', () => {
  const language = new ScriptLanguage(libs);
  const as = (kind: 'typescript' | 'javascript') => language.surround({ sdk, payload: PAYLOAD, language: kind, modules: MODULES });

  test('finds no fault with a good script', () => {
    as('typescript');
    expect(language.check('export default async (p) => { await sdk.events.emit("a.b", { price: p.price.toFixed(2) }); console.log([1].at(-1)); }')).toEqual([]);
  });

  test('marks what is wrong where it is, in payload, context and SDK', () => {
    as('typescript');
    const source = 'export default (p, context) => { p.prize; context.typ; sdk.events.emmit("a", {}); document; }';
    const found = language.check(source).map(({ from, to, message }) => [source.slice(from, to), message]);
    expect(found.map(([where]) => where)).toEqual(['prize', 'typ', 'emmit', 'document']);
    expect(found[0]?.[1]).toContain("Did you mean 'price'?");
  });

  test('checks JavaScript without asking for types', () => {
    as('javascript');
    const source = 'export default (p) => { const add = (a, b) => a + b; return add(p.price, p.prize); }';
    expect(language.check(source).map(({ from, to }) => source.slice(from, to))).toEqual(['prize']);
  });

  test('a plain script knows its payload too', () => {
    as('typescript');
    const source = 'const p = sdk.events.current(); p.prize;';
    expect(language.check(source).map(({ from, to }) => source.slice(from, to))).toEqual(['prize']);
  });

  test('completes and explains', () => {
    as('typescript');
    const source = 'export default p => { p. }';
    expect(language.complete(source, 24).map(({ label }) => label).sort()).toEqual(['note', 'price']);
    expect(language.detail(source, 24, 'price')).toBe('(property) price: number');
    expect(language.hover(source, source.indexOf('p =>'))?.text).toContain('p: ');
  });

  test('knows the modules that there are, and says which there are not', () => {
    as('typescript');
    const messages = (source: string) => language.check(source).map((one) => one.message);
    expect(messages("import { gross } from 'lib/money@3';\nexport default () => gross(1).toFixed();")).toEqual([]);
    expect(messages("import { gross } from 'lib/money';\nexport default () => gross('1');")).toHaveLength(1);
    expect(messages("import { x } from 'lib/none';\nexport default () => x;")[0]).toContain("Cannot find module 'lib/none'");
  });
});
