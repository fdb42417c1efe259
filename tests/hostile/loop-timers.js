// expect: timeout
const again = (done) => setTimeout(() => again(done), 0);
export default () => new Promise(again);
