// expect: timeout or out_of_memory
export default () => { const m = new Map(); for (let i = 0; ; i++) m.set(i, {}); };
