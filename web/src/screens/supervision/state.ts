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

/** What is measured when a run ends: not what its lane holds, nor what a runtime takes before a script is in it. */
export const HEAP_IS = 'JavaScript heap at the end of the last run, beyond that of an empty runtime: the script, what it keeps and what the run left';

/** The heap of an actor; null when it has none, or when no run has told yet. Nothing beyond an empty runtime is 0 B. */
export function heapOf({ memory_bytes, cpu_ms, kind }: Pick<ActorNode, 'memory_bytes' | 'cpu_ms' | 'kind'>): string | null {
  const isMeasured = kind === 'SubscriptionActor' && cpu_ms > 0;
  return isMeasured || memory_bytes > 0 ? bytes(memory_bytes) : null;
}

/** Why there is no number. */
export function noHeap({ kind }: Pick<ActorNode, 'kind'>): string {
  return kind === 'SubscriptionActor' ? 'not measured: no run has ended since the start' : 'not measured: scripts alone have a heap';
}
