/** A subscription as its form holds it, and as the API takes it. */
import type { BackoffKind, OnDead, Ordering, SubscriptionIn, SubscriptionOut } from '../../api/schema';

export interface Form {
  name: string;
  script_id: string;
  event_type: string;
  filter: string;
  concurrency: number;
  ordering: Ordering;
  ordering_key: string;
  on_dead: OnDead;
  max_attempts: number;
  kind: BackoffKind;
  initial_ms: number;
  max_ms: number;
  factor: number;
}

export const FRESH: Form = {
  name: '',
  script_id: '',
  event_type: '',
  filter: '',
  concurrency: 1,
  ordering: 'relaxed',
  ordering_key: '',
  on_dead: 'suspend',
  max_attempts: 3,
  kind: 'exponential',
  initial_ms: 1_000,
  max_ms: 60_000,
  factor: 2,
};

export function formOf(one: SubscriptionOut): Form {
  const { max_attempts, backoff } = one.retry_policy;
  return {
    name: one.name,
    script_id: one.script_id,
    event_type: one.event_type,
    filter: one.filter ?? '',
    concurrency: one.concurrency,
    ordering: one.ordering,
    ordering_key: one.ordering_key ?? '',
    on_dead: one.on_dead,
    max_attempts,
    kind: backoff.kind,
    initial_ms: backoff.initial_ms,
    max_ms: backoff.max_ms,
    factor: backoff.factor,
  };
}

export function bodyOf(form: Form): Omit<SubscriptionIn, 'paused'> {
  const { max_attempts, kind, initial_ms, max_ms, factor, ...rest } = form;
  return {
    ...rest,
    name: form.name.trim(),
    event_type: form.event_type.trim(),
    filter: form.filter.trim() || null,
    ordering_key: form.ordering === 'strict' ? form.ordering_key.trim() || null : null,
    retry_policy: { max_attempts, backoff: { kind, initial_ms, max_ms, factor } },
  };
}

/** When each attempt comes after the first, in milliseconds, without the jitter. */
export function attempts(form: Pick<Form, 'max_attempts' | 'kind' | 'initial_ms' | 'max_ms' | 'factor'>): number[] {
  const times = [0];
  let wait = form.initial_ms;
  for (let attempt = 1; attempt < Math.min(form.max_attempts, 50); attempt += 1) {
    times.push((times.at(-1) ?? 0) + Math.min(wait, form.max_ms));
    if (form.kind === 'exponential') wait *= form.factor;
  }
  return times;
}
