// expect: succeeded
Object.defineProperty(Object.prototype, 'id', { get() { return 'polluted'; } });
export default async () => { await sdk.events.emit('a.b', { ok: 1 }); console.log('fine'); return 1; };
