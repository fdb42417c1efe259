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
  /** Share of a wait by which it may be longer or shorter. */
  jitter_percent: number;
  /** Texts as they are typed; empty is the default, or no limit. */
  cpu_ms: string;
  wall_ms: string;
  memory_mib: string;
  rate_runs: string;
  rate_per: string;
  expires_after: string;
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
  jitter_percent: 20,
  cpu_ms: '',
  wall_ms: '',
  memory_mib: '',
  rate_runs: '',
  rate_per: '1m',
  expires_after: '',
};

const MIB = 1 << 20;

export function formOf(one: SubscriptionOut): Form {
  const { max_attempts, backoff } = one.retry_policy;
  const { limits } = one;
  const text = (value: number | null | undefined) => (value == null ? '' : String(value));
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
    jitter_percent: backoff.jitter * 100,
    cpu_ms: text(limits.cpu_ms),
    wall_ms: text(limits.wall_ms),
    memory_mib: limits.memory_bytes == null ? '' : String(limits.memory_bytes / MIB),
    rate_runs: text(limits.rate_limit?.runs),
    rate_per: limits.rate_limit?.per ?? FRESH.rate_per,
    expires_after: limits.expires_after ?? '',
  };
}

export function bodyOf(form: Form): Omit<SubscriptionIn, 'paused'> {
  const { max_attempts, kind, initial_ms, max_ms: _max, factor, jitter_percent: _, cpu_ms, wall_ms, memory_mib, rate_runs, rate_per, expires_after, ...rest } = form;
  // An input of numbers gives a number, or nothing.
  const number = (value: string | number | null) => (value === null || String(value).trim() === '' ? null : Number(value));
  const memory = number(memory_mib);
  const runs = number(rate_runs);
  return {
    ...rest,
    name: form.name.trim(),
    event_type: form.event_type.trim(),
    filter: form.filter.trim() || null,
    ordering_key: form.ordering === 'strict' ? form.ordering_key.trim() || null : null,
    retry_policy: { max_attempts, backoff: { kind, initial_ms, max_ms: longest(form), factor, jitter: jitterOf(form) } },
    limits: {
      cpu_ms: number(cpu_ms),
      wall_ms: number(wall_ms),
      memory_bytes: memory === null ? null : Math.round(memory * MIB),
      rate_limit: runs === null ? null : { runs, per: rate_per.trim() },
      expires_after: expires_after.trim() || null,
    },
  };
}

/** As a share, as the API has it. */
export function jitterOf(form: Pick<Form, 'jitter_percent'>): number {
  return Number(form.jitter_percent ?? 0) / 100;
}

/** The longest wait: where all are the same the form does not ask for it. */
function longest({ kind, initial_ms, max_ms }: Pick<Form, 'kind' | 'initial_ms' | 'max_ms'>): number {
  return kind === 'fixed' ? Math.max(max_ms, initial_ms) : max_ms;
}

/** Most attempts that a policy may have. */
const ATTEMPTS_MAX = 100;

/** When each attempt comes after the first, in milliseconds, without the jitter. */
export function attempts(form: Pick<Form, 'max_attempts' | 'kind' | 'initial_ms' | 'max_ms' | 'factor'>): number[] {
  const times = [0];
  let wait = form.initial_ms;
  for (let attempt = 1; attempt < Math.min(form.max_attempts, ATTEMPTS_MAX); attempt += 1) {
    times.push((times.at(-1) ?? 0) + Math.min(wait, longest(form)));
    if (form.kind === 'exponential') wait *= form.factor;
  }
  return times;
}
