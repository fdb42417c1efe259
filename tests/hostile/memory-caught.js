// expect: timeout or out_of_memory
export default () => { const a = []; try { for (;;) a.push('x'.repeat(1e5) + a.length); } catch { return 'caught'; } };
