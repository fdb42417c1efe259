import { expect, test } from 'vitest';

import type { ActorNode } from '../../api/schema';
import { heapOf, noHeap } from './state';
import { inPlace, look, remember, rows, type Look } from './tree';

function actor(name: string, more: Partial<ActorNode> = {}): ActorNode {
  return {
    id: name,
    kind: 'SubscriptionActor',
    name,
    state: 'running',
    mailbox: 0,
    restarts: 0,
    restarts_in_window: 0,
    restart_at: null,
    restartable: true,
    cpu_ms: 0,
    memory_bytes: 0,
    children: [],
    ...more,
  };
}

const tree = (a: number, b: number): ActorNode =>
  actor('root', { kind: 'runtime', children: [actor('a', { cpu_ms: a }), actor('b', { cpu_ms: b, state: 'suspended' })] });

test('the first look knows no share of the CPU', () => {
  const now = look(tree(5, 6), 0);
  expect(rows(tree(5, 6), null, now, 'name', '').map((row) => [row.node.name, row.depth, row.cpu])).toEqual([
    ['root', 0, null],
    ['a', 1, null],
    ['b', 1, null],
  ]);
});

test('two looks make a top, the hungriest first', () => {
  const before = look(tree(0, 0), 1_000);
  const now = look(tree(100, 500), 2_000);
  const found = rows(tree(100, 500), before, now, 'cpu', '');
  expect(found.map((row) => [row.node.name, row.depth, row.cpu])).toEqual([['b', 0, 0.5], ['a', 0, 0.1], ['root', 0, 0]]);
  expect(inPlace(found, ['a', 'root']).map((row) => row.node.name)).toEqual(['a', 'root', 'b']);
});

test('the share of the CPU is told over the last looks', () => {
  const looks = [0, 1, 2, 3, 4, 5, 6, 7].reduce<Look[]>((known, at) => remember(known, look(tree(0, 0), at)), []);
  expect(looks.map((one) => one.at)).toEqual([2, 3, 4, 5, 6, 7]);
});

test('a search keeps the way down to what it finds', () => {
  const now = look(tree(0, 0), 0);
  expect(rows(tree(0, 0), null, now, 'name', 'suspended').map((row) => row.node.name)).toEqual(['root', 'b']);
  expect(rows(tree(0, 0), null, now, 'name', 'nobody')).toEqual([]);
});

test('a heap is told once a run has ended, and nothing is made up before', () => {
  expect(heapOf(actor('a', { memory_bytes: 4_000 }))).toBe('3.9 KiB');
  expect(heapOf(actor('a'))).toBeNull();
  expect(heapOf(actor('a', { cpu_ms: 3 }))).toBe('< 4 KiB');
  expect(heapOf(actor('lane-1', { kind: 'LaneActor', cpu_ms: 3 }))).toBeNull();
  expect(noHeap(actor('a'))).toMatch(/no run has ended/);
  expect(noHeap(actor('journal', { kind: 'JournalActor' }))).toMatch(/scripts alone/);
});
