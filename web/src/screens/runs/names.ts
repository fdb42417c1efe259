/** What a run is called. */
import type { RunOut } from '../../api/schema';

/** `book failed on order.placed`; without the type where the event is not known, or not yet. */
export function titleOf(run: Pick<RunOut, 'subscription_name' | 'outcome'>, type: string | undefined): string {
  return `${run.subscription_name ?? 'A deleted subscription'} ${run.outcome}${type ? ` on ${type}` : ''}`;
}

export function attemptOf({ replay, attempt }: Pick<RunOut, 'replay' | 'attempt'>): string {
  return replay > 0 ? `Replay ${replay}, attempt ${attempt}` : `Attempt ${attempt}`;
}
