/** Times as people read them. All take milliseconds since 1970 or RFC 3339. */
import type { Zone } from './preferences.svelte';

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1_000],
];

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'always', style: 'narrow' });

/** `3m ago`, `in 20s`, `now`. */
export function ago(at: string | number, now: number): string {
  const span = new Date(at).getTime() - now;
  for (const [unit, size] of UNITS) {
    if (Math.abs(span) >= size) return relative.format(Math.trunc(span / size), unit);
  }
  return 'now';
}

/** `2026-11-24 01:47:39.120 UTC`, or with the offset of the local zone. */
export function absolute(at: string | number, zone: Zone): string {
  const date = new Date(at);
  if (zone === 'utc') return `${date.toISOString().replace('T', ' ').replace('Z', '')} UTC`;
  const two = (value: number): string => String(value).padStart(2, '0');
  const offset = -date.getTimezoneOffset();
  const sign = offset < 0 ? '−' : '+';
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const thousandth = String(date.getMilliseconds()).padStart(3, '0');
  return `${day} ${time}.${thousandth} ${sign}${two(Math.trunc(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
}

/** `0 ms`, `0.41 ms`, `820 ms`, `3.2 s`, `4m 10s`, `2h 5m`, `3d 4h`. */
export function duration(ms: number): string {
  if (ms === 0) return '0 ms';
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 3_600_000) return `${Math.trunc(ms / 60_000)}m ${Math.trunc((ms % 60_000) / 1_000)}s`;
  if (ms < 86_400_000) return `${Math.trunc(ms / 3_600_000)}h ${Math.trunc((ms % 3_600_000) / 60_000)}m`;
  return `${Math.trunc(ms / 86_400_000)}d ${Math.trunc((ms % 86_400_000) / 3_600_000)}h`;
}
