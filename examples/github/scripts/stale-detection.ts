// An open issue that nobody has touched for half a year is worth a second look.

const STALE_AFTER_DAYS = 180;
const DAY_MS = 24 * 60 * 60 * 1000;

interface IssueEvent {
  action: string;
  issue: { number: number; title: string; updated_at: string };
}

export default async function ({ issue }: IssueEvent, context: EventContext) {
  const untouched = Date.parse(context.time) - Date.parse(issue.updated_at);
  const days = Math.floor(untouched / DAY_MS);
  if (days < STALE_AFTER_DAYS) return { stale: false, days };

  // The id makes it one event for each issue and day of change, however many webhooks tell of it.
  await sdk.events.emit(
    'issue.stale',
    { number: issue.number, title: issue.title, days },
    { id: `${issue.number}@${issue.updated_at}`, subject: String(issue.number) },
  );
  return { stale: true, days };
}
