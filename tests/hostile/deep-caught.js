// expect: succeeded
const f = () => f() + 1;
export default () => { try { f(); } catch { return 'caught'; } };
