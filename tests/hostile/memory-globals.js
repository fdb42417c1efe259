// expect: timeout or out_of_memory
globalThis.keep ??= [];
export default () => { for (;;) globalThis.keep.push(new Array(100)); };
