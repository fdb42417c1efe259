/** What is well and what is not, each in one line: the overview's health panel. */
import type { Stats, StorageOut } from '../../api/schema';
import { bytes, count } from '../../ui/numbers';
import { duration } from '../../ui/time';

export interface Sign {
  name: string;
  /** Quiet: nobody knows. */
  tone: 'good' | 'warn' | 'bad' | 'quiet';
  text: string;
}

/** Less free room on the disk than this is worth a look, in bytes. */
const LITTLE_ROOM = 2 * 1024 ** 3;

export function signs(stats: Stats, storage: StorageOut | undefined): Sign[] {
  return [journal(stats), disk(stats, storage), lanes(stats), subscriptions(stats), start(stats)];
}

function journal({ journal }: Stats): Sign {
  const name = 'Journal';
  if (journal.state !== 'open') return { name, tone: 'bad', text: journal.reason ?? `Intake is ${journal.state.replace('_', ' ')}` };
  const text = `Takes events; a commit takes ${duration(journal.commit_ms_mean)}`;
  return { name, tone: 'good', text };
}

function disk({ journal }: Stats, storage: StorageOut | undefined): Sign {
  const name = 'Disk';
  if (journal.state === 'disk_full') return { name, tone: 'bad', text: 'The disk is full: publishers get 507' };
  if (!storage) return { name, tone: 'quiet', text: 'How full it is is not known' };
  const log = storage.wal_bytes === null ? '' : `, and ${bytes(storage.wal_bytes)} of write-ahead log`;
  const free = storage.free_bytes === null ? '' : `; ${bytes(storage.free_bytes)} free`;
  const tone = storage.free_bytes !== null && storage.free_bytes < LITTLE_ROOM ? 'warn' : 'good';
  return { name, tone, text: `${bytes(storage.bytes)} in ${storage.kind === 'sqlite' ? 'SQLite' : 'PostgreSQL'}${log}${free}` };
}

function lanes(stats: Stats): Sign {
  const name = 'Lanes';
  const lanes = stats.lanes as { state: string }[];
  // A cold lane is one that nothing has needed yet.
  const down = lanes.filter((lane) => lane.state !== 'running' && lane.state !== 'cold').length;
  if (down > 0) return { name, tone: 'warn', text: `${down} of ${lanes.length} are not running` };
  const kind = stats.isolation === 'process' ? 'processes' : 'threads';
  if (stats.isolation === 'process' && stats.walls_missing.length > 0) {
    return { name, tone: 'warn', text: `${lanes.length} ${kind}; the kernel grants no ${stats.walls_missing.join(', ')}` };
  }
  return { name, tone: 'good', text: `${lanes.length} ${kind} run` };
}

function subscriptions({ subscriptions: { active, paused, suspended, inactive } }: Stats): Sign {
  const rest = [
    [suspended, 'suspended'],
    [paused, 'paused'],
    [inactive, 'inactive'],
  ] as const;
  const others = rest.filter(([number]) => number > 0).map(([number, state]) => `${count(number)} ${state}`);
  return {
    name: 'Subscriptions',
    tone: suspended > 0 ? 'bad' : 'good',
    text: [`${count(active)} active`, ...others].join(', '),
  };
}

function start({ recovered, uptime_ms }: Stats): Sign {
  const name = 'Up';
  const since = duration(uptime_ms);
  if (recovered.unclean_stops === 0) return { name, tone: 'good', text: `For ${since}` };
  return { name, tone: 'warn', text: `For ${since}, after an unclean stop; ${count(recovered.events)} events routed again` };
}
