// expect: succeeded
const forbidden = ['process', 'require', 'std', 'os', 'bjson', 'print', 'scriptArgs', 'WebAssembly', 'XMLHttpRequest', 'WebSocket'];
export default () => { const found = forbidden.filter((name) => name in globalThis); if (found.length) throw new Error(found); };
