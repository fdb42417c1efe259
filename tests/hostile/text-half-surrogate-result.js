// expect: exception
export default () => '\udc00';
