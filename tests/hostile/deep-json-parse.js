// expect: stack_overflow
export default () => JSON.parse('['.repeat(1e5));
