// The webhook payloads of @octokit/webhooks-examples as CloudEvents, one JSON object a line:
//
//   node events.mjs | curl -H "Authorization: Bearer $TRIPLINE_TOKEN" \
//     -H 'Content-Type: application/x-ndjson' --data-binary @- $TRIPLINE_URL/api/v1/events

import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const packageDir = join(here, 'node_modules/@octokit/webhooks-examples');

/**
 * All payloads of the package: those of github.com, and those of each GitHub Enterprise Server.
 *
 * The type is `github.<event>[.<action>]`. Source and id tell where a payload stands in the
 * package, so publishing twice delivers once.
 */
export function events() {
  const editions = readdirSync(packageDir, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return editions.flatMap(({ name: edition }) => {
    const webhooks = JSON.parse(readFileSync(join(packageDir, edition, 'index.json'), 'utf8'));
    return webhooks.flatMap(({ name, examples }) =>
      examples.map((data, index) => ({
        specversion: '1.0',
        id: `${name}-${index}`,
        source: `/github/${edition}`,
        type: ['github', name, data.action].filter(Boolean).join('.'),
        data,
      })),
    );
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const event of events()) process.stdout.write(`${JSON.stringify(event)}\n`);
}
