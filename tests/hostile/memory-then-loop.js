// expect: timeout or out_of_memory
export default () => { const a = []; try { for (;;) a.push({}); } catch { /* full */ } for (;;) { try { for (;;) {} } catch { /* go on */ } } };
