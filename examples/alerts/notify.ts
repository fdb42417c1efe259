/**
 * Tells a chat channel what went wrong in Tripline.
 *
 * Subscribe it to `tripline.**`, grant it the secret `chat_webhook` (the address that the chat gives
 * for incoming messages) and allow its host. Slack, Mattermost, Rocket.Chat and Google Chat take
 * `{ "text": … }`; for Discord it is `content`.
 */
interface Alert {
  subscription_name?: string | null;
  event_type?: string;
  error_kind?: string;
  last_error?: string;
  replays?: number;
  count?: number;
  reason?: string;
  suspended_for?: string;
  closed_at?: string;
  action?: string;
  done?: number;
  /** A path in the dashboard. */
  link: string;
}

/** Where people open the dashboard. */
const DASHBOARD = 'http://127.0.0.1:7070';

export default async function notify(alert: Alert, context: EventContext) {
  const text = `${line(context.type, alert)}\n${DASHBOARD}${alert.link}`;
  const response = await fetch(await sdk.secrets.get('chat_webhook'), {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': context.idempotencyKey },
    body: JSON.stringify({ text }),
  });
  if (response.status === 429) throw new sdk.RetryError('the chat asks for patience', { after: '30s' });
  if (!response.ok) throw new Error(`the chat answered ${response.status}`);
  return text;
}

function line(type: string, alert: Alert): string {
  switch (type) {
    case 'tripline.dead_letter.created':
      return `${alert.subscription_name}: ${alert.event_type} is dead${alert.replays ? ' again' : ''}. ${alert.error_kind}: ${alert.last_error}`;
    case 'tripline.dead_letter.suppressed':
      return `${alert.subscription_name ?? 'Several subscriptions'}: ${alert.count} more dead letters within a minute`;
    case 'tripline.subscription.suspended':
      return `${alert.subscription_name} is suspended: ${alert.reason}`;
    case 'tripline.subscription.resumed':
      return `${alert.subscription_name} runs again`;
    case 'tripline.intake.opened':
      return `Events are taken again; they were refused since ${alert.closed_at} (${alert.reason})`;
    case 'tripline.bulk.finished':
      return `${alert.action} of ${alert.done} dead letters is done`;
    default:
      return type;
  }
}
