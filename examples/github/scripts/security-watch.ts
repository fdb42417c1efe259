// Alerts come in several shapes; what matters is how bad it is and where to look.

interface Alert {
  html_url?: string;
  severity?: string;
  affected_package_name?: string;
  rule?: { severity?: string | null; description?: string };
  security_advisory?: { severity: string; summary: string };
}

const URGENT = new Set(['high', 'critical', 'error']);

export default async function ({ alert, repository }: { alert: Alert; repository?: { full_name: string } }) {
  const severity = alert.security_advisory?.severity ?? alert.rule?.severity ?? alert.severity ?? 'unknown';
  const what = alert.security_advisory?.summary ?? alert.rule?.description ?? alert.affected_package_name ?? 'an alert';
  const urgent = URGENT.has(severity);
  await sdk.events.emit('team.message', {
    channel: 'security',
    urgent,
    text: `${repository?.full_name ?? 'unknown'}: ${what} (${severity}) ${alert.html_url ?? ''}`.trim(),
  });
  return { severity, urgent };
}
