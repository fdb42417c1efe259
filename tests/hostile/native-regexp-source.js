// expect: killed
export default () => new RegExp('a|'.repeat(1e6));
