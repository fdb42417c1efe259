// expect: exception
export default () => import('/proc/self/environ');
