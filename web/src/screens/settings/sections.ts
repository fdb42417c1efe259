/** Parts of the settings, in order: a line here is a tab and a path `/settings/ID`. */
import type { Component } from 'svelte';

import type { Role } from '../../api/schema';

export interface Section {
  id: string;
  label: string;
  load: () => Promise<{ default: Component }>;
  /** Less may not see it. */
  role?: Role;
}

export const sections: readonly Section[] = [
  { id: 'tokens', label: 'Tokens', role: 'admin', load: () => import('./Tokens.svelte') },
  { id: 'secrets', label: 'Secrets', role: 'admin', load: () => import('./Secrets.svelte') },
  { id: 'hooks', label: 'Webhooks', load: () => import('./Hooks.svelte') },
  { id: 'kv', label: 'Keys', load: () => import('./Kv.svelte') },
  { id: 'configuration', label: 'Configuration', load: () => import('./Configuration.svelte') },
  { id: 'storage', label: 'Storage', load: () => import('./Storage.svelte') },
  { id: 'audit', label: 'Audit', load: () => import('./Audit.svelte') },
  { id: 'about', label: 'About', load: () => import('./About.svelte') },
];
