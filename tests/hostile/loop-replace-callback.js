// expect: timeout
export default () => 'a'.replace(/a/, () => { for (;;) {} });
