/** One event tried on a filter that is being written: what the API is given, and where the answer points. */
import type { EventOut } from '../../api/schema';

/** A stored event as a filter check takes it: all that a filter can see. */
export function given(event: EventOut): Record<string, unknown> {
  const { specversion, id, source, type, subject, extensions, data, data_base64 } = event;
  return {
    ...extensions,
    specversion,
    id,
    source,
    type,
    ...(subject == null ? {} : { subject }),
    ...(data_base64 != null ? { data_base64 } : data === undefined ? {} : { data }),
  };
}

export interface Spot {
  /** The filter as it is typed, or as it is stored where only that has the clause. */
  text: string;
  /** 1-based, in characters. */
  column: number;
}

/** Where the clause that failed stands; null if it is of the type, or written quite differently. */
export function spotOf(clause: string, typed: string, canonical: string): Spot | null {
  for (const text of [typed, canonical]) {
    const at = text.indexOf(clause);
    if (at >= 0) return { text, column: [...text.slice(0, at)].length + 1 };
  }
  return null;
}
