// expect: stack_overflow
const o = { get x() { return this.x; } };
export default () => o.x;
