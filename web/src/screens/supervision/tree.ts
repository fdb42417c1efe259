/** The tree of actors as rows of a table, with what can be told from two looks at it. */
import type { ActorNode } from '../../api/schema';

export interface Row {
  node: ActorNode;
  depth: number;
  /** Share of one core since the last look; null at the first. */
  cpu: number | null;
}

export type Order = 'name' | 'cpu' | 'memory' | 'mailbox' | 'restarts';

/** CPU of every actor at one moment, by id. */
export interface Look {
  at: number;
  cpu: Map<string, number>;
}

export function look(tree: ActorNode, at: number): Look {
  const cpu = new Map<string, number>();
  const visit = (node: ActorNode): void => {
    cpu.set(node.id, node.cpu_ms);
    node.children.forEach(visit);
  };
  visit(tree);
  return { at, cpu };
}

/** Looks back over which the share of the CPU is told: one alone jumps too much to be read. */
const LOOKS = 5;

/** The newest looks, the oldest first. */
export function remember(looks: readonly Look[], now: Look): Look[] {
  return [...looks, now].slice(-LOOKS - 1);
}

/**
 * By name the tree, depth first; by anything else a `top`: all actors in one list, the hungriest first.
 * What does not fit `text` is left out; from the tree only if no child fits either.
 */
export function rows(tree: ActorNode, before: Look | null, now: Look, order: Order, text: string): Row[] {
  const wanted = text.trim().toLowerCase();
  const share = (id: string): number | null => {
    const earlier = before?.cpu.get(id);
    const later = now.cpu.get(id);
    if (before === null || earlier === undefined || later === undefined || now.at <= before.at) return null;
    return Math.max(0, (later - earlier) / (now.at - before.at));
  };
  const fits = (node: ActorNode): boolean => !wanted || `${node.name} ${node.kind} ${node.state}`.toLowerCase().includes(wanted);
  const visit = (node: ActorNode, depth: number): Row[] => {
    const children = node.children.flatMap((child) => visit(child, depth + 1));
    return fits(node) || children.length > 0 ? [{ node, depth, cpu: share(node.id) }, ...children] : [];
  };
  const all = visit(tree, 0);
  return order === 'name' ? all : top(all.filter((row) => fits(row.node)), order);
}

const SIZE: Record<Exclude<Order, 'name'>, (row: Row) => number> = {
  cpu: (row) => row.cpu ?? 0,
  memory: (row) => row.node.memory_bytes,
  mailbox: (row) => row.node.mailbox,
  restarts: (row) => row.node.restarts_in_window * 1e6 + row.node.restarts,
};

function top(all: readonly Row[], order: Exclude<Order, 'name'>): Row[] {
  const of = SIZE[order];
  return all.map((row) => ({ ...row, depth: 0 })).sort((a, b) => of(b) - of(a));
}

/** The same rows in the order in which they were shown: nothing moves under the pointer. New ones come last. */
export function inPlace(found: readonly Row[], shown: readonly string[]): Row[] {
  const at = new Map(shown.map((id, index) => [id, index]));
  const placeOf = (row: Row): number => at.get(row.node.id) ?? shown.length;
  return [...found].sort((a, b) => placeOf(a) - placeOf(b));
}
