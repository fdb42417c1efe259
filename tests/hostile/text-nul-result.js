// expect: exception
export default () => 'a\0b';
