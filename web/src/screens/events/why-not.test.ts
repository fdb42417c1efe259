import { expect, test } from 'vitest';

import type { MatchOut } from '../../api/schema';
import { listeners } from './why-not';

const one = (subscription_id: string, event_type: string, matches: boolean) => ({ subscription_id, event_type, matches }) as MatchOut;

test('first those of the type that say no, then those that came too late, and apart those of other types', () => {
  const items = [one('takes', 'a.*', true), one('late', 'a.b', true), one('refuses', '**', false), one('near', 'a.c', false), one('changed', 'a.b', false)];
  const found = listeners(items, 'a.b', [{ subscription_id: 'takes' }, { subscription_id: 'changed' }]);
  const ids = (list: MatchOut[]) => list.map((each) => each.subscription_id);
  expect([ids(found.refusing), ids(found.late), ids(found.others), found.taking]).toEqual([['refuses'], ['late'], ['near'], 2]);
});
