// expect: succeeded
JSON.stringify = () => '{"forged":true}';
export default async () => { await sdk.events.emit('a.b', { ok: 1 }); return { ok: 1 }; };
