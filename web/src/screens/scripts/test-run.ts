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

/** The source as it is in the editor, on a stored event, a dead letter or JSON. Throws when that is none. */
export function testOf(source: string, language: TestIn['language'], on: { eventId: string; letterId: string; json: string }): TestIn {
  const [event_id, letter_id] = [on.eventId.trim(), on.letterId.trim()];
  return { source, language, ...(event_id ? { event_id } : letter_id ? { letter_id } : { data: parseJson(on.json) }) };
}

/** The compiler says where; a thrown error's stack does. */
export function marksOf(out: TestOut | null | undefined): Mark[] {
  const error = out?.error as { message: string; stack?: string | null; line?: number | null; column?: number | null } | null | undefined;
  if (!error) return [];
  const place = error.line ? { line: error.line, column: error.column ?? 1 } : placeOf(error.stack);
  return place ? [{ ...place, message: error.message }] : [];
}
