// expect: timeout
export default () => { throw Object.defineProperty(new Error('x'), 'stack', { get() { for (;;) {} } }); };
