// expect: timeout
export default () => (0, eval)('for (;;) {}');
