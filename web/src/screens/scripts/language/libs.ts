/** The declarations of the JavaScript that scripts have (ES2023), by file name. Part of the worker. */
const files = import.meta.glob<string>(
  [
    '../../../../node_modules/typescript/lib/lib.es5.d.ts',
    '../../../../node_modules/typescript/lib/lib.es20{15,16,17,18,19,20,21,22,23}*.d.ts',
    '../../../../node_modules/typescript/lib/lib.decorators*.d.ts',
    '!../../../../node_modules/typescript/lib/*.full.d.ts',
  ],
  { query: '?raw', import: 'default', eager: true },
);

export const libs: ReadonlyMap<string, string> = new Map(
  Object.entries(files).map(([path, text]) => [path.slice(path.lastIndexOf('/') + 1), text]),
);
