// expect: timeout
export default () => { (async () => { for (;;) await null; })(); return 1; };
