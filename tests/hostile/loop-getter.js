// expect: timeout
export default () => ({ get x() { for (;;) {} } });
