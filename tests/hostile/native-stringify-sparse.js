// expect: killed
export default () => { const a = []; a.length = 2 ** 32 - 1; return JSON.stringify({}, a); };
