import { expect, test } from 'vitest';

import { matchesType } from './pattern';

// The same table as beside the server's own matcher.
test.each([
  ['a.b', 'a.b', true],
  ['a.*', 'a.b', true],
  ['a.*', 'a.b.c', false],
  ['**', 'a.b', true],
  ['a.**', 'a', true],
  ['a.**', 'a.b.c', true],
  ['a.**', 'b.a', false],
  ['**.c', 'a.b.c', true],
  ['a.**.c', 'a.c', true],
  ['a.**.c', 'a.b.c.d', false],
  ['a.**.*', 'a', false],
  ['a.**.*', 'a.b', true],
  ['**', 'tripline.dead_letter.created', false],
  ['*.dead_letter.*', 'tripline.dead_letter.created', false],
  ['tripline.**', 'tripline.dead_letter.created', true],
  ['**', 'tripliner.created', true],
])('%s on %s: %s', (pattern, type, expected) => {
  expect(matchesType(pattern, type)).toBe(expected);
});
