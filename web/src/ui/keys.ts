/** Shortcuts: single keys, and two in a row (`g e`). Typing in a field is never a shortcut. */

export interface Shortcut {
  /** `g e`, `?`, `/`. */
  keys: string;
  label: string;
  run: () => void;
}

/** How long the second key may take. */
const CHORD_MS = 1_200;

const registered = new Set<Shortcut>();

/** Adds shortcuts until the returned function is called: the return value of an `$effect`. */
export function shortcuts(...added: Shortcut[]): () => void {
  for (const one of added) registered.add(one);
  return () => {
    for (const one of added) registered.delete(one);
  };
}

/** All that work now, for the help. */
export function active(): Shortcut[] {
  return [...registered];
}

export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}

/** Seen from outside, a key in the editor comes from the host of its shadow root. */
function targetOf(event: KeyboardEvent): EventTarget | null {
  return event.composedPath()[0] ?? event.target;
}

/** Handles keys of the window. `now` is for tests. */
export function keyHandler(now: () => number = Date.now): (event: KeyboardEvent) => void {
  let first: { key: string; at: number } | null = null;
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(targetOf(event))) return;
    if (document.querySelector('dialog[open]')) return;
    const chord = first && now() - first.at < CHORD_MS ? `${first.key} ${event.key}` : null;
    first = null;
    const hit = find(chord) ?? find(event.key);
    if (hit) {
      event.preventDefault();
      hit.run();
    } else if ([...registered].some((one) => one.keys.startsWith(`${event.key} `))) {
      first = { key: event.key, at: now() };
    }
  };
}

/** The latest wins: a screen may take over a key. */
function find(keys: string | null): Shortcut | undefined {
  return [...registered].reverse().find((one) => one.keys === keys);
}
