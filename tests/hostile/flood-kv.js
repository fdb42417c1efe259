// expect: timeout or out_of_memory
export default async () => { for (let n = 0; ; n++) { sdk.kv.get(`${n}`).catch(() => {}); sdk.kv.set(`${n}`, n).catch(() => {}); } };
