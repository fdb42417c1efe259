// expect: timeout
export default () => JSON.parse('[1]', () => { for (;;) {} });
