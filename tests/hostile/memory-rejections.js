// expect: timeout or out_of_memory
export default () => { for (;;) Promise.reject(new Error('x')); };
