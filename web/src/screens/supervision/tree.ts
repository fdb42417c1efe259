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

/** Depth first; the children of each actor in the wanted order. What does not fit `text` is left out, unless a child does. */
export function rows(tree: ActorNode, before: Look | null, now: Look, order: Order, text: string): Row[] {
  const wanted = text.trim().toLowerCase();
  const share = (id: string): number | null => {
    const earlier = before?.cpu.get(id);
    const later = now.cpu.get(id);
    if (before === null || earlier === undefined || later === undefined || now.at <= before.at) return null;
    return Math.max(0, (later - earlier) / (now.at - before.at));
  };
  const visit = (node: ActorNode, depth: number): Row[] => {
    const children = sorted(node.children, order, share).flatMap((child) => visit(child, depth + 1));
    const fits = !wanted || `${node.name} ${node.kind} ${node.state}`.toLowerCase().includes(wanted);
    return fits || children.length > 0 ? [{ node, depth, cpu: share(node.id) }, ...children] : [];
  };
  return visit(tree, 0);
}

function sorted(nodes: readonly ActorNode[], order: Order, share: (id: string) => number | null): ActorNode[] {
  const size: Record<Exclude<Order, 'name'>, (node: ActorNode) => number> = {
    cpu: (node) => share(node.id) ?? 0,
    memory: (node) => node.memory_bytes,
    mailbox: (node) => node.mailbox,
    restarts: (node) => node.restarts,
  };
  if (order === 'name') return [...nodes];
  const of = size[order];
  return [...nodes].sort((a, b) => of(b) - of(a));
}
