// One shape for four webhooks: whatever ran and failed, the team hears of it.

interface Conclusion {
  name?: string;
  conclusion: string | null;
  html_url?: string;
  head_branch?: string | null;
  head_sha: string;
}

type Completed = Partial<Record<'check_run' | 'check_suite' | 'workflow_run' | 'workflow_job', Conclusion>> & {
  repository: { full_name: string; default_branch: string };
};

export default async function (event: Completed) {
  const ran = event.check_run ?? event.check_suite ?? event.workflow_run ?? event.workflow_job;
  if (!ran) throw new sdk.PermanentError('none of the four shapes that have a conclusion');

  const urgent = ran.head_branch === event.repository.default_branch;
  const name = ran.name ?? 'checks';
  await sdk.events.emit('team.message', {
    channel: 'builds',
    urgent,
    text: `${event.repository.full_name}: ${name} failed at ${ran.head_sha.slice(0, 7)} ${ran.html_url ?? ''}`.trim(),
  });
  return { name, urgent };
}
