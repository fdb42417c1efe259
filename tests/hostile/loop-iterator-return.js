// expect: timeout
const it = { [Symbol.iterator]() { return this; }, next() { return { done: false }; }, return() { for (;;) {} } };
export default () => { for (const _ of it) break; };
