// expect: timeout
export default async () => { const block = new Uint8Array(8e6); for (;;) try { await crypto.subtle.digest('SHA-512', block); } catch {} };
