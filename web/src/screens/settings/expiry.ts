/** How long a new token lives. */
export const LIVES = [
  { value: '', label: 'Never ends' },
  { value: '1', label: 'Ends in a day' },
  { value: '30', label: 'Ends in 30 days' },
  { value: '90', label: 'Ends in 90 days' },
  { value: '365', label: 'Ends in a year' },
] as const;

export type Life = (typeof LIVES)[number]['value'];

/** RFC 3339, or null for never. */
export function endOf(life: Life, now: number): string | null {
  return life === '' ? null : new Date(now + Number(life) * 86_400_000).toISOString();
}
