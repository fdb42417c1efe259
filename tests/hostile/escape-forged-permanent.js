// expect: exception
export default () => { throw { __proto__: sdk.PermanentError.prototype, message: 'forged' }; };
