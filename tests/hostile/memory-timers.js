// expect: timeout or out_of_memory
export default () => { for (;;) setTimeout(() => {}, 1e6); };
