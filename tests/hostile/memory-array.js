// expect: timeout or out_of_memory
export default () => { const a = []; for (;;) a.push(new Array(1000).fill(7)); };
