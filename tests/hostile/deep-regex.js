// expect: exception or stack_overflow
export default () => new RegExp('('.repeat(1e5) + ')'.repeat(1e5));
