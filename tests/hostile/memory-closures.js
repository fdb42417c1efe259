// expect: timeout or out_of_memory
export default () => { let f = () => 0; for (;;) { const g = f; f = () => g; } };
