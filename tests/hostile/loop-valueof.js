// expect: timeout
export default () => +{ valueOf() { for (;;) {} } };
