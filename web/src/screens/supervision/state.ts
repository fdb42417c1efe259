import type { Tone } from '../../ui/Badge.svelte';

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
