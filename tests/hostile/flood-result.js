// expect: exception
export default () => 'x'.repeat(2e6);
