// expect: refused or exception
export default () => import('/proc/self/environ');
