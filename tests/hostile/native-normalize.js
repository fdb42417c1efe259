// expect: killed
export default () => '\u0315\u0300'.repeat(5e5).normalize('NFC').length;
