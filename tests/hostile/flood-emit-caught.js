// expect: timeout or out_of_memory
export default async () => { for (;;) { try { await sdk.events.emit('a.b', {}); } catch { /* go on */ } } };
