// expect: timeout or out_of_memory
export default async () => { const a = []; for (;;) { a.push(new Promise(() => {})); } };
