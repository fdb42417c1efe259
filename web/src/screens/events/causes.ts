/** The graph of causes as a tree: from the event that was published down to all it led to. */
import type { EventDetail, Relative } from '../../api/schema';

export interface Node {
  uid: string;
  type: string;
  at: string;
  /** Subscription whose run emitted it. */
  by: string | null;
  isHere: boolean;
  children: Node[];
}

export function tree(event: EventDetail): Node {
  const here = { uid: event.uid, type: event.type, accepted_at: event.accepted_at, cause: event.cause };
  const all = [...[...event.causes].reverse(), here, ...event.effects];
  const nodes = new Map(all.map((one) => [one.uid, nodeOf(one, event.uid)]));
  for (const one of all) {
    const parent = one.cause && nodes.get(one.cause.event_id);
    const child = nodes.get(one.uid);
    if (parent && child) parent.children.push(child);
  }
  const root = nodes.get(all[0]?.uid ?? event.uid);
  if (!root) throw new Error('an event is in its own tree');
  return root;
}

function nodeOf(one: Relative, here: string): Node {
  return {
    uid: one.uid,
    type: one.type,
    at: one.accepted_at,
    by: one.cause?.subscription_id ?? null,
    isHere: one.uid === here,
    children: [],
  };
}
