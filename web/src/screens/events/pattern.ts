/** Event type patterns as the server reads them: `*` is one segment, `**` any number of them. */
export function matchesType(pattern: string, type: string): boolean {
  return fits(pattern.split('.'), type.split('.'));
}

function fits(pattern: readonly string[], type: readonly string[]): boolean {
  const [head, ...rest] = pattern;
  if (head === undefined) return type.length === 0;
  if (head === '**') return fits(rest, type) || (type.length > 0 && fits(pattern, type.slice(1)));
  return type.length > 0 && (head === '*' || head === type[0]) && fits(rest, type.slice(1));
}
