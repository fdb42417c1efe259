// The end of the chain. Here the line is logged; with `fetch` it would go to a chat server.

interface Message {
  channel: string;
  urgent: boolean;
  text: string;
}

export default function (message: Message, context: EventContext) {
  const line = `#${message.channel} ${message.urgent ? '(!) ' : ''}${message.text}`;
  console.log(line);
  return { line, via: context.subscription.name };
}
