// expect: exception
export default () => new Promise(() => {});
