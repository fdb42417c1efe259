// expect: stack_overflow
export default () => { let p = {}; for (let i = 0; i < 3e4; i++) p = new Proxy(p, {}); return p.x; };
