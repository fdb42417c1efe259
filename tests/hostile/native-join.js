// expect: exception
export default () => Array.prototype.join.call({ length: 2 ** 40 });
