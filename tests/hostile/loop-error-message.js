// expect: timeout
export default () => { throw Object.defineProperty(new Error(), 'message', { get() { for (;;) {} } }); };
