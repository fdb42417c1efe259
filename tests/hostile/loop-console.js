// expect: timeout
export default () => { console.log({ [Symbol.toStringTag]: 1 }, new Proxy({}, { getPrototypeOf() { for (;;) {} } })); };
