// expect: killed
let reads = 0;
const sly = { get length() { return reads++ ? 2 ** 53 - 1 : 1; } };
export default () => Array.prototype.reverse.call(sly);
