/** What the palette can do and find. Screens add commands while they are open. */
import type { IconName } from '../ui/icons';

export interface Command {
  id: string;
  label: string;
  /** Kind of thing, shown beside it. */
  group: string;
  icon: IconName;
  keys?: string;
  run: () => void;
}

const added = new Set<Command>();

/** Adds commands until the returned function is called: the return value of an `$effect`. */
export function commands(...more: Command[]): () => void {
  for (const one of more) added.add(one);
  return () => {
    for (const one of more) added.delete(one);
  };
}

export function addedCommands(): Command[] {
  return [...added];
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
