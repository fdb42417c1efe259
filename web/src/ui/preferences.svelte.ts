/** What a person chose for this browser. Kept in its storage where that is allowed. */

export type Theme = 'system' | 'light' | 'dark';
export type Zone = 'local' | 'utc';

const THEMES: readonly Theme[] = ['system', 'light', 'dark'];

class Preferences {
  theme = $state<Theme>(stored('theme', THEMES, 'system'));
  zone = $state<Zone>(stored('zone', ['local', 'utc'], 'local'));

  setTheme(theme: Theme): void {
    this.theme = theme;
    keep('theme', theme);
    this.apply();
  }

  nextTheme(): void {
    this.setTheme(THEMES[(THEMES.indexOf(this.theme) + 1) % THEMES.length] ?? 'system');
  }

  setZone(zone: Zone): void {
    this.zone = zone;
    keep('zone', zone);
  }

  nextZone(): void {
    this.setZone(this.zone === 'utc' ? 'local' : 'utc');
  }

  /** Puts the theme on the document; the stylesheet does the rest. */
  apply(): void {
    if (this.theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.theme;
  }
}

export const preferences = new Preferences();

function stored<T extends string>(name: string, allowed: readonly T[], otherwise: T): T {
  try {
    const value = localStorage.getItem(`tripline.${name}`);
    return allowed.find((one) => one === value) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function keep(name: string, value: string): void {
  try {
    localStorage.setItem(`tripline.${name}`, value);
  } catch {
    // Storage may be forbidden: the choice then lasts as long as the page.
  }
}
