// expect: out_of_memory
export default () => { const kept = []; for (;;) kept.push(new URLSearchParams('a&'.repeat(120_000))); };
