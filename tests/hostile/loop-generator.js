// expect: timeout
function* endless() { for (;;) { try { yield 1; } finally { /* stay */ } } }
export default () => { for (const _ of endless()) {} };
