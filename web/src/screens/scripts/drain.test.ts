import { expect, test } from 'vitest';

import { DryRun, type World } from './drain.svelte';

/** Letters in pages of two; those that are named fail. */
function world(count: number, failing: string[], onTest: (id: string) => void = () => {}): World {
  const ids = Array.from({ length: count }, (_, n) => `l${n}`);
  return {
    letters: async (cursor) => {
      const from = Number(cursor ?? 0);
      return { items: ids.slice(from, from + 2).map((id) => ({ id })), next: from + 2 < count ? String(from + 2) : null };
    },
    test: async (id) => {
      onTest(id);
      return failing.includes(id) ? { outcome: 'failed', error: { kind: 'exception', message: `${id} is broken` } as any } : { outcome: 'succeeded', error: null };
    },
  };
}

test('every letter of every page is tried once', async () => {
  const dry = new DryRun();
  const tried: string[] = [];
  await dry.start('s', world(5, ['l3'], (id) => tried.push(id)));
  expect([dry.passed, dry.failed, dry.isRunning, dry.problem]).toEqual([4, [{ letter: 'l3', error: 'l3 is broken' }], false, null]);
  expect(tried.sort()).toEqual(['l0', 'l1', 'l2', 'l3', 'l4']);
});

test('what was stopped says so, and a new start begins anew', async () => {
  const dry = new DryRun();
  await dry.start('s', world(6, [], (id) => id === 'l1' && dry.stop()));
  expect(dry.tried).toBeLessThan(6);
  expect(dry.problem).toContain('not all');
  await dry.start('t', world(2, []));
  expect([dry.source, dry.passed, dry.problem]).toEqual(['t', 2, null]);
});

test('a letter that cannot be tried has failed, and letters that cannot be read are a problem', async () => {
  const dry = new DryRun();
  await dry.start('s', { ...world(1, []), test: () => Promise.reject(new Error('the server is busy')) });
  expect(dry.failed).toHaveLength(1);
  await dry.start('s', { ...world(1, []), letters: () => Promise.reject(new Error('no store')) });
  expect(dry.problem).toBeTruthy();
});
