/**
 * Event type patterns as the server reads them: `*` is one segment, `**` any number of them. Types under
 * `tripline` are the runtime's own: only a pattern that begins with that name takes them.
 */
export function matchesType(pattern: string, type: string): boolean {
  return (isReserved(pattern) || !isReserved(type)) && fits(pattern.split('.'), type.split('.'));
}

/** The runtime's own types, which are taken by name only. */
export function isReserved(type: string): boolean {
  return type === 'tripline' || type.startsWith('tripline.');
}

function fits(pattern: readonly string[], type: readonly string[]): boolean {
  const [head, ...rest] = pattern;
  if (head === undefined) return type.length === 0;
  if (head === '**') return fits(rest, type) || (type.length > 0 && fits(pattern, type.slice(1)));
  return type.length > 0 && (head === '*' || head === type[0]) && fits(rest, type.slice(1));
}
