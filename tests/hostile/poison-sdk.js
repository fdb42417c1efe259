// expect: exception
export default () => { sdk.events.emit = () => {}; };
