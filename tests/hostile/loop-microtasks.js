// expect: timeout or out_of_memory
const spin = () => Promise.resolve().then(spin);
export default () => spin();
