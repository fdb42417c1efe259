/** Lines of the audit trail as sentences: `subscription.pause` on `subscription ID`. */
import type { AuditOut } from '../../api/schema';
import { session } from '../../api/session.svelte';
import { href } from '../../router/router.svelte';
import { sections } from '../settings/sections';

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
  return { verb: DONE[word] ?? word, kind, id, name: target_name ?? short(id), link: word === 'delete' || word === 'remove' ? null : pageOf(kind, id) };
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
      return pageOfSection('tokens');
    case 'secret':
      return pageOfSection('secrets');
    case 'hook':
      return pageOfSection('hooks');
    case 'actor':
      return href('/supervision');
    default:
      return null;
  }
}

/** Whoever reads the trail may not see each part of the settings. */
function pageOfSection(section: string): string | null {
  const role = sections.find((one) => one.id === section)?.role ?? 'viewer';
  return session.can(role) ? href('/settings/:section', { section }) : null;
}
