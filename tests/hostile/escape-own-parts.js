// expect: refused or exception
export default () => import('tripline:core');
