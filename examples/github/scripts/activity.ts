// A plain script: no export, its top level runs once for each event.

const payload = sdk.events.current<{ sender?: { login: string }; repository?: { full_name: string } }>();
const { type } = sdk.events.context();
console.log(`${payload.sender?.login ?? 'somebody'}: ${type} in ${payload.repository?.full_name ?? 'no repository'}`);
