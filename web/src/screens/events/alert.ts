/** The runtime's own events say which page of the dashboard they are about. */
import type { EventDetail } from '../../api/schema';
import { base } from '../../router/base';
import { isReserved } from './pattern';

/** Address of that page; null: it is somebody else's event, whose links are no business of ours. */
export function pageOf(event: Pick<EventDetail, 'type' | 'data'>): string | null {
  if (!isReserved(event.type)) return null;
  const link = (event.data as { link?: unknown } | null | undefined)?.link;
  return typeof link === 'string' && /^\/(?!\/)/.test(link) ? base.pathname + link.slice(1) : null;
}
