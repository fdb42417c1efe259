// expect: exception
export default () => { const a = []; a.length = 2 ** 31; a.sort(); };
