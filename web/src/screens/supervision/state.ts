import type { ActorNode } from '../../api/schema';
import type { Tone } from '../../ui/Badge.svelte';
import { bytes } from '../../ui/numbers';

/** How the states of actors look. */
export const TONE: Record<string, Tone> = {
  running: 'good',
  behind: 'info',
  paused: 'quiet',
  cold: 'quiet',
  starting: 'info',
  silent: 'warn',
  restarting: 'warn',
  suspended: 'bad',
  stopped: 'bad',
};

/**
 * What is measured when a run ends: what the engine has taken from the system beyond an empty runtime.
 * It takes small things in arenas of 4 KiB (QuickJS, `JS_ARENA_SIZE`), and an empty runtime leaves room in its own.
 */
export const HEAP_IS = 'JavaScript heap at the end of the last run, beyond that of an empty runtime; the engine takes it in steps of 4 KiB';
const STEP = '< 4 KiB';

/** The heap of an actor; null when it has none, or when no run has told yet. */
export function heapOf({ memory_bytes, cpu_ms, kind }: Pick<ActorNode, 'memory_bytes' | 'cpu_ms' | 'kind'>): string | null {
  if (memory_bytes > 0) return bytes(memory_bytes);
  return kind === 'SubscriptionActor' && cpu_ms > 0 ? STEP : null;
}

/** Why there is no number. */
export function noHeap({ kind }: Pick<ActorNode, 'kind'>): string {
  return kind === 'SubscriptionActor' ? 'not measured: no run has ended since the start' : 'not measured: scripts alone have a heap';
}
