// expect: timeout or succeeded
const registry = new FinalizationRegistry(() => { for (;;) {} });
export default () => { registry.register({}, 1); return 1; };
