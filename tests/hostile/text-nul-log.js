// expect: succeeded
export default () => { console.log('a\0b\ud800'); };
