// expect: out_of_memory
export default () => { const headers = new Headers(); for (let n = 0; ; n++) headers.append(`x-${n}`, 'x'.repeat(1000)); };
