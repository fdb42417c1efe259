// expect: exception
export default () => sdk.events.emit.constructor.constructor('return process')();
