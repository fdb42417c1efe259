// expect: succeeded
Promise.prototype.then = () => { throw new Error('poison'); };
export default async () => { sdk.events.emit('a.b', { ok: 1 }); return 1; };
