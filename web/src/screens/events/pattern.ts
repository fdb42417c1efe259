/**
 * Event type patterns as the server reads them: `*` is one segment, `**` any number of them. Types under
 * `tripline` are the runtime's own: only a pattern that begins with that name takes them.
 */
export function matchesType(pattern: string, type: string): boolean {
  const [segments, types] = [pattern.split('.'), type.split('.')];
  return (types[0] !== RESERVED || segments[0] === RESERVED) && fits(segments, types);
}

const RESERVED = 'tripline';

function fits(pattern: readonly string[], type: readonly string[]): boolean {
  const [head, ...rest] = pattern;
  if (head === undefined) return type.length === 0;
  if (head === '**') return fits(rest, type) || (type.length > 0 && fits(pattern, type.slice(1)));
  return type.length > 0 && (head === '*' || head === type[0]) && fits(rest, type.slice(1));
}
