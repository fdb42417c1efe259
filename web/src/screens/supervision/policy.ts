/** The restart policy in force, as a sentence. */
import type { Setting } from '../../api/schema';

export function policy(settings: readonly Setting[]): string {
  const value = (name: string): string => String(settings.find((one) => one.key === `supervisor.${name}`)?.value ?? '?');
  const who = value('strategy') === 'one_for_all' ? 'A crash restarts all of the same script' : 'A crash restarts the one that crashed';
  const spent = value('on_exhausted') === 'escalate' ? 'the process ends' : 'it is suspended';
  return (
    `${who}, after ${value('backoff.initial')} growing ×${value('backoff.factor')} to ${value('backoff.max')}; ` +
    `after ${value('max_restarts')} within ${value('window')} ${spent}.`
  );
}
