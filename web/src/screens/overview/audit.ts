/** Lines of the audit trail as sentences: `subscription.pause` on `subscription ID`. */
import type { AuditOut } from '../../api/schema';
import { href } from '../../router/router.svelte';

const DONE: Record<string, string> = {
  abort: 'aborted',
  backfill: 'backfilled',
  backup: 'backed up',
  cancel: 'cancelled',
  create: 'created',
  delete: 'deleted',
  discard: 'discarded',
  erase: 'erased',
  pause: 'paused',
  remove: 'removed',
  replay: 'replayed',
  restart: 'restarted',
  restore: 'restored',
  resume: 'resumed',
  revoke: 'revoked',
  set: 'set',
  update: 'changed',
};

export interface Deed {
  verb: string;
  /** `subscription`, `dead letter`. */
  kind: string;
  id: string;
  /** What it is called, or the end of its id. */
  name: string;
  /** Its page, where there is one. */
  link: string | null;
}

export function deed({ action, target, target_name }: Pick<AuditOut, 'action' | 'target' | 'target_name'>): Deed {
  const word = action.split('.').at(-1) ?? action;
  const [, kind = target, id = ''] = /^(.*) (\S+)$/.exec(target) ?? [];
  return { verb: DONE[word] ?? word, kind, id, name: target_name ?? short(id), link: word === 'delete' ? null : pageOf(kind, id) };
}

/** Ids end in what tells them apart; names, such as a secret's, stay as they are. */
function short(id: string): string {
  return /^[0-9a-f-]{32,}$|:[0-9a-f]{40,}$/i.test(id) ? `…${id.slice(-6)}` : id;
}

function pageOf(kind: string, id: string): string | null {
  switch (kind) {
    case 'script':
      return href('/scripts/:id', { id });
    case 'subscription':
      return href('/subscriptions/:id', { id });
    case 'dead letter':
      return href('/dead-letters/:id', { id });
    case 'token':
      return href('/settings/:section', { section: 'tokens' });
    case 'actor':
      return href('/supervision');
    default:
      return null;
  }
}
