// expect: stack_overflow or exception
export default () => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return String(a); };
