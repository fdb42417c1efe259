// expect: emit_rejected
export default () => sdk.events.emit('a.b', { text: 'x'.repeat(2e6) });
