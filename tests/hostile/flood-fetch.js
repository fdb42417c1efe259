// expect: timeout or out_of_memory
export default async () => { for (;;) try { await fetch('https://example.com/'); } catch {} };
