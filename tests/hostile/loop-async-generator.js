// expect: timeout
async function* endless() { for (;;) yield 1; }
export default async () => { for await (const _ of endless()) {} };
