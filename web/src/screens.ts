/**
 * The registry of screens: one line each makes a route, a title, a place in the navigation, a
 * shortcut and an entry of the command palette.
 *
 * Of two patterns that match, the first wins: `/scripts/new` stands before `/scripts/:id`.
 */
import type { Component } from 'svelte';

import type { IconName } from './ui/icons';
import type { Role } from './api/schema';

export interface Screen {
  /** `:name` parts become props of the component. */
  path: `/${string}`;
  title: string;
  load: () => Promise<{ default: Component<any> }>;
  /** Shown in the navigation, in this order. */
  nav?: { icon: IconName; /** After `g`. */ key: string; group: 'work' | 'operate' };
  /** Less may not see it. */
  role?: Role;
}

export const screens: readonly Screen[] = [
  {
    path: '/',
    title: 'Overview',
    load: () => import('./screens/overview/Overview.svelte'),
    nav: { icon: 'overview', key: 'o', group: 'work' },
  },
  {
    path: '/events',
    title: 'Events',
    load: () => import('./screens/events/Events.svelte'),
    nav: { icon: 'events', key: 'e', group: 'work' },
  },
  { path: '/events/:uid', title: 'Event', load: () => import('./screens/events/EventPage.svelte') },
  {
    path: '/scripts',
    title: 'Scripts',
    load: () => import('./screens/scripts/Scripts.svelte'),
    nav: { icon: 'scripts', key: 's', group: 'work' },
  },
  { path: '/scripts/new', title: 'New script', load: () => import('./screens/scripts/ScriptPage.svelte'), role: 'editor' },
  { path: '/scripts/:id', title: 'Script', load: () => import('./screens/scripts/ScriptPage.svelte') },
  {
    path: '/subscriptions',
    title: 'Subscriptions',
    load: () => import('./screens/subscriptions/Subscriptions.svelte'),
    nav: { icon: 'subscriptions', key: 'u', group: 'work' },
  },
  { path: '/subscriptions/new', title: 'New subscription', load: () => import('./screens/subscriptions/SubscriptionPage.svelte'), role: 'editor' },
  { path: '/subscriptions/:id', title: 'Subscription', load: () => import('./screens/subscriptions/SubscriptionPage.svelte') },
  {
    path: '/dead-letters',
    title: 'Dead letters',
    load: () => import('./screens/dead-letters/DeadLetters.svelte'),
    nav: { icon: 'dead-letters', key: 'd', group: 'work' },
  },
  { path: '/dead-letters/:id', title: 'Dead letter', load: () => import('./screens/dead-letters/Letter.svelte') },
  {
    path: '/runs',
    title: 'Runs',
    load: () => import('./screens/runs/Runs.svelte'),
    nav: { icon: 'runs', key: 'r', group: 'work' },
  },
  { path: '/runs/:id', title: 'Run', load: () => import('./screens/runs/Run.svelte') },
  {
    path: '/delayed',
    title: 'Delayed',
    load: () => import('./screens/delayed/Delayed.svelte'),
    nav: { icon: 'clock', key: 'l', group: 'work' },
  },
  {
    path: '/supervision',
    title: 'Supervision',
    load: () => import('./screens/supervision/Supervision.svelte'),
    nav: { icon: 'supervision', key: 'v', group: 'operate' },
  },
  {
    path: '/settings',
    title: 'Settings',
    load: () => import('./screens/settings/Settings.svelte'),
    nav: { icon: 'settings', key: ',', group: 'operate' },
  },
  { path: '/settings/:section', title: 'Settings', load: () => import('./screens/settings/Settings.svelte') },
];
