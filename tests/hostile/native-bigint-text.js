// expect: killed
export default () => { for (;;) { (2n ** 1_000_000n).toString(); } };
