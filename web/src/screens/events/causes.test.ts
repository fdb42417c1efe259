import { expect, test } from 'vitest';

import type { EventDetail, Relative } from '../../api/schema';
import { tree } from './causes';

const relative = (uid: string, by: string | null): Relative => ({
  uid,
  type: uid,
  accepted_at: '2026-01-01T00:00:00Z',
  cause: by === null ? null : { event_id: by, subscription_id: `s-${uid}` },
});

test('causes lie above the event, what it led to below', () => {
  const event = {
    ...relative('here', 'parent'),
    causes: [relative('parent', 'root'), relative('root', null)],
    effects: [relative('child', 'here'), relative('other', 'here'), relative('grandchild', 'child')],
  } as unknown as EventDetail;
  const shape = (node: ReturnType<typeof tree>): unknown => [node.uid, ...node.children.map(shape)];
  expect(shape(tree(event))).toEqual(['root', ['parent', ['here', ['child', ['grandchild']], ['other']]]]);
});

test('a cause that retention removed leaves the event at the top', () => {
  const event = { ...relative('here', 'gone'), causes: [], effects: [] } as unknown as EventDetail;
  expect(tree(event)).toMatchObject({ uid: 'here', isHere: true, by: 's-here', children: [] });
});
