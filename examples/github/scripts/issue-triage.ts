// A new issue gets labels and a priority from its words; what looks urgent is told to the team.

interface IssueEvent {
  issue: { number: number; title: string; body: string | null; html_url: string; user: { login: string } };
  repository?: { full_name: string };
}

const RULES: [label: string, words: RegExp][] = [
  ['bug', /\b(bug|crash|error|broken|fails?|regression)\b/i],
  ['documentation', /\b(readme|docs?|typo|spelling)\b/i],
  ['security', /\b(cve|vulnerab\w+|leak|xss|injection)\b/i],
  ['question', /\?\s*$|\bhow (do|can|to)\b/im],
];

export default async function ({ issue, repository }: IssueEvent) {
  const text = `${issue.title}\n${issue.body ?? ''}`;
  const labels = RULES.filter(([, words]) => words.test(text)).map(([label]) => label);
  const priority = labels.includes('security') ? 'high' : labels.includes('bug') ? 'normal' : 'low';

  await sdk.events.emit('team.message', {
    channel: 'triage',
    urgent: priority === 'high',
    text: `${repository?.full_name ?? 'a repository'}#${issue.number} "${issue.title}": ${labels.join(', ') || 'unlabelled'} (${priority})`,
  });
  return { issue: issue.number, labels, priority };
}
