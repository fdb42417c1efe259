// expect: exception
export default () => import('tripline:core');
