/** What a combobox offers and says, and where its keys lead: decided here, drawn by `Combobox.svelte`. */
import { count } from './numbers';

export interface Match {
  value: string;
  label: string;
}

/** An answer: what was found for a text. */
export interface Matches {
  text: string;
  items: readonly Match[];
  /** More fit than are named. */
  more: boolean;
}

/**
 * What is offered for the text. The answer may be one to an earlier text: what of it still fits is
 * offered meanwhile, so that nothing is chosen that was not meant.
 */
export function fitting(matches: Matches | undefined, text: string): readonly Match[] {
  if (!matches) return [];
  if (matches.text === text) return matches.items;
  const wanted = text.toLowerCase();
  return matches.items.filter(({ label }) => label.toLowerCase().includes(wanted));
}

/** The one that is called just so, if it is the only one. */
export function called(items: readonly Match[], text: string): Match | undefined {
  const same = items.filter(({ label }) => label.toLowerCase() === text.toLowerCase());
  return same.length === 1 ? same[0] : undefined;
}

/** Where a key leads from `at` (-1: none) among so many; null: it is not a key of lists. */
export function step(key: string, at: number, among: number): number | null {
  const last = among - 1;
  switch (key) {
    case 'ArrowDown':
      return at >= last ? Math.min(0, last) : at + 1;
    case 'ArrowUp':
      return at <= 0 ? last : at - 1;
    case 'Home':
      return Math.min(0, last);
    case 'End':
      return last;
    default:
      return null;
  }
}

/** The last line: whether this is all, and what to do when it is not. */
export function lastLine(matches: Matches | undefined, text: string, failure: string | null): string {
  if (failure) return `The list cannot be read: ${failure}`;
  if (matches?.text !== text) return 'Looking…';
  if (matches.items.length === 0) return text ? `No name has “${text}” in it` : 'There are none yet';
  if (matches.more) return `${count(matches.items.length)} shown, ${text ? 'more match' : 'there are more'}: type to narrow`;
  return '';
}
