// expect: exception
export default () => { const a = []; a.length = 2 ** 32 - 1; return a.concat(a); };
