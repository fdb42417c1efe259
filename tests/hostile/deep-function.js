// expect: stack_overflow
const f = () => f() + 1;
export default () => f();
