// expect: exception
export default () => { Object.defineProperty(sdk.PermanentError, Symbol.hasInstance, { value: () => true }); };
