// expect: refused or exception
export default () => import('fs');
