// expect: exception
export default () => import('fs');
