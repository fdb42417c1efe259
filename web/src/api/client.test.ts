import { afterEach, expect, test, vi } from 'vitest';

import { api, urlOf, whenUnauthorized } from './client';
import { Problem } from './problem';

function answers(status: number, body: unknown, headers: Record<string, string> = {}) {
  const type = status < 400 ? 'application/json' : 'application/problem+json';
  const response = new Response(body === undefined ? null : JSON.stringify(body), { status, headers: { 'content-type': type, ...headers } });
  return vi.spyOn(globalThis, 'fetch').mockResolvedValue(response);
}

afterEach(() => whenUnauthorized(() => {}));

test('paths are filled in and escaped, empty parts of the query are left out', () => {
  const url = urlOf('/api/v1/events/{uid}', { uid: 'a/b' }, { limit: 5, type: '', cursor: undefined });
  expect(url.href).toBe('http://localhost:3000/api/v1/events/a%2Fb?limit=5');
});

test('a body is sent with all its digits, and the ETag guards it', async () => {
  const fetch = answers(200, { id: 'x' });
  const data = (await import('./json')).parseJson('{"n":9007199254740993}');
  await api.patch('/api/v1/scripts/{id}', { path: { id: 'x' }, body: { note: data } as never, ifMatch: '"3"' });
  const [, init] = fetch.mock.calls[0] as [URL, RequestInit];
  expect(init.body).toBe('{"note":{"n":9007199254740993}}');
  expect((init.headers as Headers).get('if-match')).toBe('"3"');
});

test('a refusal is a problem with its code, column and wait', async () => {
  answers(422, { type: '', title: 'The filter is wrong', status: 422, code: 'filter_invalid', detail: 'column 3', column: 3 }, { 'retry-after': '7' });
  const problem = await api.get('/api/v1/events').catch((error: unknown) => error as Problem);
  expect(problem).toBeInstanceOf(Problem);
  expect(problem).toMatchObject({ code: 'filter_invalid', status: 422, retryAfter: 7, details: { column: 3 } });
});

test('what is no problem document comes from something between', async () => {
  vi.spyOn(globalThis, 'fetch').mockResolvedValue(new Response('<html>', { status: 502 }));
  await expect(api.get('/api/v1/events')).rejects.toMatchObject({ code: 'unexpected', status: 502 });
});

test('no answer at all is worth another try', async () => {
  vi.spyOn(globalThis, 'fetch').mockRejectedValue(new TypeError('Failed to fetch'));
  await expect(api.get('/api/v1/events')).rejects.toMatchObject({ code: 'offline', isPassing: true });
});

test('a session that ended is told', async () => {
  const told = vi.fn();
  whenUnauthorized(told);
  answers(401, { type: '', title: '', status: 401, code: 'unauthorized', detail: '' });
  await expect(api.get('/api/v1/session')).rejects.toMatchObject({ status: 401 });
  expect(told).toHaveBeenCalledOnce();
});
