// A published release becomes an announcement.

interface ReleaseEvent {
  release: { tag_name: string; name: string | null; body: string | null; html_url: string; author: { login: string } };
  repository: { full_name: string };
}

/** The first few list items or lines of the notes. */
function highlights(body: string | null): string[] {
  const lines = (body ?? '').split('\n').map((line) => line.trim().replace(/^[-*]\s+/, ''));
  return lines.filter((line) => line && !line.startsWith('#')).slice(0, 5);
}

export default async function ({ release, repository }: ReleaseEvent) {
  const notes = highlights(release.body);
  const title = `${repository.full_name} ${release.name || release.tag_name}`;
  await sdk.events.emit('team.message', {
    channel: 'releases',
    urgent: false,
    text: [`${title} is out: ${release.html_url}`, ...notes.map((note) => `- ${note}`)].join('\n'),
  });
  return { tag: release.tag_name, notes };
}
