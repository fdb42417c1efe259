/** What the palette can do and find. */
import { icons, type IconName } from '../ui/icons';

export interface Command {
  id: string;
  label: string;
  /** Kind of thing, shown beside it. */
  group: string;
  icon: IconName;
  keys?: string;
  run: () => void;
}

/**
 * What the page in view offers to whoever looks at it, as it shows it: what is in its header, and what
 * names itself for the palette elsewhere (`data-command`). What a role may not do is not there.
 */
export function commandsOf(page: ParentNode): Command[] {
  const header = page.querySelectorAll<HTMLElement>('[data-actions] :is(a, button):not(:disabled)');
  const others = page.querySelectorAll<HTMLElement>('[data-command]:not(:disabled)');
  const named = [...new Set([...header, ...others])].map((element) => ({ element, label: (element.dataset.command || element.textContent || element.ariaLabel || '').trim() }));
  return named
    .filter(({ label }) => label !== '')
    .map(({ element, label }, at) => ({ id: `here-${at}`, label, group: 'On this page', icon: iconOf(element), run: () => element.click() }));
}

function iconOf({ dataset: { icon } }: HTMLElement): IconName {
  return icon && icon in icons ? (icon as IconName) : 'forward';
}

/** Commands that fit what was typed, the best first: all its letters in order, the closer the better. */
export function search(all: readonly Command[], text: string): Command[] {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [...all];
  return all
    .map((command) => ({ command, score: score(`${command.label} ${command.group}`.toLowerCase(), wanted) }))
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score)
    .map(({ command }) => command);
}

function score(text: string, wanted: string): number {
  const at = text.indexOf(wanted);
  if (at === 0) return 4;
  if (at > 0) return text[at - 1] === ' ' ? 3 : 2;
  let from = 0;
  for (const letter of wanted) {
    from = text.indexOf(letter, from) + 1;
    if (from === 0) return 0;
  }
  return 1;
}
