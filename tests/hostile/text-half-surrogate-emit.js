// expect: emit_rejected
export default () => sdk.events.emit('a.b', { s: '\ud800' });
