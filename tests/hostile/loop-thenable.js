// expect: timeout
const thenable = { then(done) { done(thenable); } };
export default async () => thenable;
