// expect: out_of_memory
export default () => { const kept = [], encoder = new TextEncoder(), text = 'x'.repeat(1e6); for (;;) kept.push(encoder.encode(text)); };
