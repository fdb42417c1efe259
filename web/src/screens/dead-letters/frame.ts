/** The lines of a script around the place that a stack names. */

export interface Place {
  line: number;
  column: number;
}

/** The innermost place of a stack such as `    at default (fraud-check.ts:1:73)`. */
export function placeOf(stack: string | null | undefined): Place | null {
  const found = /:(\d+):(\d+)\)?\s*$/m.exec(stack ?? '');
  return found ? { line: Number(found[1]), column: Number(found[2]) } : null;
}

const AROUND = 4;

/** A few lines around `line`, and the number of the first. */
export function frame(source: string, line: number): { code: string; first: number } {
  const lines = source.split('\n');
  const first = Math.max(1, line - AROUND);
  return { code: lines.slice(first - 1, line + AROUND).join('\n'), first };
}
