/** What a test runs on, and where its error points. */
import { parseJson } from '../../api/json';
import type { TestIn, TestOut } from '../../api/schema';
import type { Mark } from '../../ui/editor';
import { placeOf } from '../dead-letters/frame';

export const TEMPLATE = `// Payload is known from stored events, once the script has a subscription.
export default async function (payload: Payload, context: EventContext) {
  console.log(context.type, payload);
  return { seen: context.id };
}
`;

/** What the test panel runs the source on. What another kind was set to is kept for when it is chosen again. */
export interface TestOn {
  kind: 'event' | 'letter' | 'json' | 'run';
  eventId: string;
  letterId: string;
  runId: string;
  json: string;
  /** Requests are made, not refused. */
  fetch: boolean;
}

const EMPTY = '{\n  \n}';

/** Nobody has typed a payload. */
export function isUntouched(on: TestOn): boolean {
  return on.json === EMPTY;
}

/** As the URL says; JSON if it names nothing. */
export function testOn(query: URLSearchParams): TestOn {
  const [eventId, letterId, runId] = ['event', 'letter', 'run'].map((name) => query.get(name) ?? '') as [string, string, string];
  const kind = runId ? 'run' : eventId ? 'event' : letterId || query.has('drain') ? 'letter' : 'json';
  return { kind, eventId, letterId, runId, json: EMPTY, fetch: false };
}

/** The source as it is in the editor, on a stored event, a dead letter or JSON. Throws when that is none. */
export function testOf(source: string, language: TestIn['language'], on: TestOn): TestIn {
  const body = { source, language, fetch: on.fetch };
  if (on.kind === 'event') return { ...body, event_id: chosen(on.eventId, 'an event') };
  if (on.kind === 'letter') return { ...body, letter_id: chosen(on.letterId, 'a dead letter') };
  return { ...body, data: parseJson(on.json) };
}

/** An id that was chosen or pasted. Throws when there is none. */
export function chosen(id: string, what: string): string {
  if (!id.trim()) throw new Error(`Choose ${what} to run it on.`);
  return id.trim();
}

/** The compiler says where; a thrown error's stack does. */
export function marksOf(out: TestOut | null | undefined): Mark[] {
  const error = out?.error as { message: string; stack?: string | null; line?: number | null; column?: number | null } | null | undefined;
  if (!error) return [];
  const place = error.line ? { line: error.line, column: error.column ?? 1 } : placeOf(error.stack);
  return place ? [{ ...place, message: error.message }] : [];
}
