/** Subscriptions as an event's page tells of them. */
import type { DeliveryOut, MatchOut } from '../../api/schema';
import { matchesType } from './pattern';

export interface Listeners {
  /** Of the event's type, and their filter or their state says no. */
  refusing: MatchOut[];
  /** They would take it now, and did not when it came. */
  late: MatchOut[];
  /** Of another type, nearly this one. */
  others: MatchOut[];
  /** Those that took it, and have a delivery. */
  taking: number;
}

export function listeners(items: readonly MatchOut[], type: string, deliveries: readonly Pick<DeliveryOut, 'subscription_id'>[]): Listeners {
  const took = new Set(deliveries.map((one) => one.subscription_id));
  const isOfType = (one: MatchOut): boolean => matchesType(one.event_type, type);
  const rest = items.filter((one) => !took.has(one.subscription_id));
  return {
    refusing: rest.filter((one) => !one.matches && isOfType(one)),
    late: rest.filter((one) => one.matches),
    others: rest.filter((one) => !one.matches && !isOfType(one)),
    taking: items.length - rest.length,
  };
}
