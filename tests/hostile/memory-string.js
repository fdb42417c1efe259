// expect: timeout or out_of_memory
export default () => { let s = 'x'; for (;;) { s += s; s.charCodeAt(1); } };
