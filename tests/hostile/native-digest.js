// expect: timeout
export default () => { const block = new Uint8Array(8e6); for (;;) crypto.subtle.digest('SHA-512', block); };
