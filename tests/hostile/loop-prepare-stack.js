// expect: timeout
Error.prepareStackTrace = () => { for (;;) {} };
export default () => { for (;;) { try { null.x; } catch { /* go on */ } } };
