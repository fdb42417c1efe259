// expect: out_of_memory
export default () => { try { return new Uint8Array(2 ** 30).length; } catch { return 'caught'; } };
