import { describe, expect, test } from 'vitest';

import { parseAnswer, parseJson, printJson } from './json';

describe('JSON of others', () => {
  test.each(['9007199254740993', '1.10', '1e2', '-0', '0.1000000000000000055', '12345678901234567890123'])(
    'keeps %s digit for digit',
    (digits) => {
      const text = `{"data":{"n":${digits}}}`;
      expect(printJson(parseAnswer(text))).toBe(text);
      expect(printJson(parseJson(digits))).toBe(digits);
    },
  );

  test('a number that a double holds is a number', () => {
    expect(parseJson('{"n":1.5,"long":9007199254740993}')).toMatchObject({ n: 1.5 });
  });
});

test("the API's own numbers are plain, whatever they look like", () => {
  const answer = parseAnswer('{"cpu_ms":0.0,"rates":[{"p50":2.0}],"data":{"cpu_ms":0.0}}') as Record<string, any>;
  expect(answer.cpu_ms).toBe(0);
  expect(answer.rates).toEqual([{ p50: 2 }]);
  expect(String(answer.data.cpu_ms)).toBe('0.0');
});

test('what is no JSON says where', () => {
  expect(() => parseJson('{"a": }')).toThrow(SyntaxError);
});
