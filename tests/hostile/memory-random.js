// expect: out_of_memory
export default async () => { const kept = []; for (;;) kept.push(await crypto.subtle.exportKey('raw', await crypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-256', length: 65_536 }, true, ['sign']))); };
