// expect: emit_rejected
export default async () => { for (;;) await sdk.events.emit('a.b', {}); };
