import { expect, test } from 'vitest';

import type { EventOut } from '../../api/schema';
import { given, spotOf } from './tester';

test('the clause that failed is found in what was typed, or in the form that is stored', () => {
  expect(spotOf('$.currency == "EUR"', '$.amount > 1 && $.currency == "EUR"', '')).toEqual({ text: '$.amount > 1 && $.currency == "EUR"', column: 17 });
  expect(spotOf('$.n > 1', "$.a=='ü' && $.n>1", '$.a == "ü" && $.n > 1')).toEqual({ text: '$.a == "ü" && $.n > 1', column: 15 });
  expect(spotOf('event.type is a.*', '$.n > 1', '$.n > 1')).toBeNull();
});

test('a check is given all that a filter sees of an event', () => {
  const event = { specversion: '1.0', uid: 'u', id: 'i', source: '/shop', type: 'a.b', seq: 7, time: 't', hop: 0, extensions: { tenant: 'x' }, data: { n: 1 } } as unknown as EventOut;
  expect(given(event)).toEqual({ specversion: '1.0', id: 'i', source: '/shop', type: 'a.b', tenant: 'x', data: { n: 1 } });
  expect(given({ ...event, subject: 's', data: undefined, data_base64: 'AA==' })).toMatchObject({ subject: 's', data_base64: 'AA==' });
});
