import type { SubscriptionState } from '../../api/schema';
import type { Tone } from '../../ui/Badge.svelte';

/** How a state looks. */
export const TONE: Record<SubscriptionState, Tone> = { active: 'good', paused: 'quiet', suspended: 'bad', inactive: 'quiet' };
