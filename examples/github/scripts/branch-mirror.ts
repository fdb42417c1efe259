// Plans what a mirror has to fetch. A deleted ref is never mirrored by itself: it goes straight to
// the dead letters, where a person looks at it, and replays or discards it.

interface Push {
  ref: string;
  before: string;
  after: string;
  deleted: boolean;
  commits: { id: string; message: string; author: { name: string } }[];
}

export default function (push: Push) {
  if (push.deleted) throw new sdk.PermanentError(`${push.ref} was deleted upstream`);
  const [, kind, ...name] = push.ref.split('/');
  return { kind, name: name.join('/'), fetch: `${push.before}..${push.after}`, commits: push.commits.length };
}
