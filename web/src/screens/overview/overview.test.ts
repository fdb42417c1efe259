import { expect, test } from 'vitest';

import type { SessionOut, Stats, StorageOut } from '../../api/schema';
import { session } from '../../api/session.svelte';
import { deed } from './audit';
import { curl } from './first-run';
import { signs } from './health';
import { charts, rangeOf } from './series';

const well = {
  uptime_ms: 65_000,
  recovered: { events: 0, rows: 0, unclean_stops: 0 },
  journal: { state: 'open', reason: null, commit_ms_mean: 0.5 },
  subscriptions: { active: 3, paused: 0, suspended: 0, inactive: 0 },
  lanes: [{ state: 'running' }, { state: 'cold' }],
  isolation: 'process',
  walls_missing: [],
} as unknown as Stats;

const toneOf = (stats: Stats, name: string) => signs(stats, undefined).find((sign) => sign.name === name)?.tone;

test('a server that is well says so', () => {
  const tones = signs(well, undefined).filter((sign) => sign.name !== 'Disk').map((sign) => sign.tone);
  expect(new Set(tones)).toEqual(new Set(['good']));
  expect(toneOf(well, 'Disk'), 'nobody knows yet').toBe('quiet');
});

test('what is not well stands out', () => {
  expect(toneOf({ ...well, journal: { ...well.journal, state: 'disk_full' } }, 'Disk')).toBe('bad');
  expect(toneOf({ ...well, journal: { ...well.journal, state: 'closed', reason: 'fsync failed' } }, 'Journal')).toBe('bad');
  expect(toneOf({ ...well, subscriptions: { ...well.subscriptions, suspended: 1 } }, 'Subscriptions')).toBe('bad');
  expect(toneOf({ ...well, walls_missing: ['landlock'] }, 'Lanes')).toBe('warn');
  expect(toneOf({ ...well, lanes: [{ state: 'restarting' }] as never }, 'Lanes')).toBe('warn');
  expect(toneOf({ ...well, recovered: { ...well.recovered, unclean_stops: 1 } }, 'Up')).toBe('warn');
});

const point = (time: string, span_ms = 5_000) => ({ at: `2026-01-01T${time}Z`, span_ms, events: 50, succeeded: 40, failed: 5, dead: 2, backlog: 7, dead_letters: 3, p50_ms: null, p99_ms: null });

test('counts of a step become rates, and silence a gap', () => {
  expect(charts([point('00:00:05')], 5_000)).toMatchObject({ accepted: [10], succeeded: [8], failed: [1], died: [0.4], backlog: [7], deadLetters: [3], p50: [null] });
  expect(charts([point('00:00:05', 1_000)], 5_000).accepted).toEqual([50]);
});

test('the lines break where no server ran', () => {
  const found = charts([point('00:00:05'), point('00:00:10'), point('01:00:00')], 5_000);
  expect(found.backlog).toEqual([7, 7, null, 7]);
  expect(found.times.map((time) => new Date(time * 1_000).toISOString().slice(11, 19))).toEqual(['00:00:05', '00:00:10', '00:59:55', '01:00:00']);
});

test('a range that nobody offers is ten minutes', () => {
  expect([rangeOf('1440'), rangeOf('7'), rangeOf(null)]).toEqual([1_440, 10, 10]);
});

test('the audit trail reads as sentences', () => {
  const read = (action: string, target: string, target_name: string | null = null) => deed({ action, target, target_name });
  expect(read('subscription.pause', 'subscription 42', 'ship')).toEqual({ verb: 'paused', kind: 'subscription', id: '42', name: 'ship', link: '/subscriptions/42' });
  expect(read('dead_letter.replay', 'dead letter 01a22ffc-fd0b-7789-b4c5-9e0099dffe6e')).toMatchObject({ verb: 'replayed', kind: 'dead letter', name: '…dffe6e' });
  expect(read('secret.set', 'secret stripe_api_key').name).toBe('stripe_api_key');
  expect(read('script.delete', 'script 1').link).toBeNull();
  session.who = { role: 'admin' } as SessionOut;
  expect(read('token.revoke', 'token 01a22ffc-fd0b-7789-b4c5-9e0099dffe6e', 'ci-bot')).toMatchObject({ verb: 'revoked', name: 'ci-bot', link: '/settings/tokens' });
  expect(read('secret.remove', 'secret stripe').link).toBeNull();
  session.who = { role: 'viewer' } as SessionOut;
  expect(read('token.create', 'token 7', 'ci-bot').link).toBeNull();
  expect(read('hook.create', 'hook github').link).toBe('/settings/hooks');
  expect(read('config.sing', 'everything')).toMatchObject({ verb: 'sing', kind: 'everything', name: '' });
});

test('the command holds the key once there is one', () => {
  expect(curl('trl_x')).toContain('-H "Authorization: Bearer trl_x"');
  expect(curl(null)).toContain('$TRIPLINE_TOKEN');
});

test('a disk with little room left is worth a look', () => {
  const held = { kind: 'sqlite', bytes: 5_000_000, wal_bytes: 0, free_bytes: 80 * 1024 ** 3 } as StorageOut;
  const sign = (free_bytes: number | null) => signs(well, { ...held, free_bytes }).find((one) => one.name === 'Disk');
  expect(sign(held.free_bytes)).toMatchObject({ tone: 'good', text: expect.stringContaining('free') });
  expect(sign(900_000_000)?.tone).toBe('warn');
  expect(sign(null)).toMatchObject({ tone: 'good', text: expect.not.stringContaining('free') });
});
