/** What the shell offers from the registry of screens: navigation, palette entries, shortcuts. */
import { match } from '../router/router.svelte';
import { screens, type Screen } from '../screens';

export type NavScreen = Screen & { nav: NonNullable<Screen['nav']> };

export const navigation: NavScreen[] = screens.filter((screen): screen is NavScreen => screen.nav !== undefined);

/** The screen of a path with its parameters, or null: no such page. */
export function screenOf(path: string): { screen: Screen; params: Record<string, string> } | null {
  for (const screen of screens) {
    const params = match(screen.path, path);
    if (params) return { screen, params };
  }
  return null;
}

/** Whether an entry is where the reader is: `/events/…` belongs to `/events`. */
export function isWithin(entry: Screen, path: string): boolean {
  return entry.path === '/' ? path === '/' : path === entry.path || path.startsWith(`${entry.path}/`);
}
