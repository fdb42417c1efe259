/** The type of payloads, from stored events: what scripts see as `Payload`. */
import { isLosslessNumber } from '../../../api/json';

export interface Sample {
  type: string;
  data?: unknown;
}

/** Deeper and wider than this a type helps nobody. */
const DEPTH_MAX = 6;
const NAMES_MAX = 60;
const TYPES_NAMED = 3;

/** What was seen at one place of all payloads. */
interface Shape {
  plain: Set<string>;
  objects: number;
  members: Map<string, { shape: Shape; count: number }>;
  items: Shape | null;
}

const empty = (): Shape => ({ plain: new Set(), objects: 0, members: new Map(), items: null });

function add(shape: Shape, value: unknown, depth: number): void {
  if (isLosslessNumber(value)) shape.plain.add('number');
  else if (value === null || typeof value !== 'object') shape.plain.add(value === null ? 'null' : typeof value);
  else if (depth >= DEPTH_MAX) shape.plain.add('any');
  else if (Array.isArray(value)) {
    shape.items ??= empty();
    for (const item of value) add(shape.items, item, depth + 1);
  } else {
    shape.objects += 1;
    for (const [name, child] of Object.entries(value)) {
      const member = shape.members.get(name) ?? { shape: empty(), count: 0 };
      shape.members.set(name, member);
      member.count += 1;
      add(member.shape, child, depth + 1);
    }
  }
}

/** How many types are joined by `|`. */
const kinds = ({ plain, objects, items }: Shape): number => plain.size + Number(objects > 0) + Number(items !== null);

function print(shape: Shape, indent: string): string {
  if (shape.plain.has('any')) return 'any';
  const parts = [...shape.plain].filter((name) => name !== 'null').sort();
  if (shape.items) {
    const item = print(shape.items, indent);
    parts.push(kinds(shape.items) > 1 ? `(${item})[]` : `${item}[]`);
  }
  if (shape.objects > 0) parts.push(printObject(shape, indent));
  if (shape.plain.has('null')) parts.push('null');
  return parts.join(' | ') || 'any';
}

function printObject({ members, objects }: Shape, indent: string): string {
  if (members.size === 0) return '{}';
  // Ids as keys, most likely: their names say nothing.
  if (members.size > NAMES_MAX) return 'Record<string, any>';
  const inner = `${indent}  `;
  const lines = [...members].map(([name, { shape, count }]) => {
    const key = /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name);
    return `${inner}${key}${count < objects ? '?' : ''}: ${print(shape, inner)};`;
  });
  return `{\n${lines.join('\n')}\n${indent}}`;
}

/** `type Payload = …`; without samples it is anything. */
export function payloadType(samples: readonly Sample[]): string {
  if (samples.length === 0) return 'type Payload = any;\n';
  const shape = empty();
  for (const { data } of samples) add(shape, data, 0);
  const types = [...new Set(samples.map(({ type }) => type))];
  // `*/` would end the comment.
  const named = types.slice(0, TYPES_NAMED).join(', ').replaceAll('*/', '*\u200b/');
  const rest = types.length > TYPES_NAMED ? ` and ${types.length - TYPES_NAMED} more` : '';
  return `/** As in the last ${samples.length} stored of ${named}${rest}. */\ntype Payload = ${print(shape, '')};\n`;
}
