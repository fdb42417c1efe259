// expect: timeout
const spin = () => queueMicrotask(spin);
export default () => { spin(); };
