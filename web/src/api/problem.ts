import type { Problem as Details } from './schema';

/** What the API refused, as RFC 9457 tells it; also a network that did not answer (`offline`). */
export class Problem extends Error {
  override readonly name = 'Problem';

  constructor(
    readonly details: Details,
    /** Seconds, from `Retry-After`. */
    readonly retryAfter: number | null = null,
  ) {
    super(details.detail || details.title);
  }

  /** Stable; branch on this, not on the text. */
  get code(): string {
    return this.details.code;
  }

  get status(): number {
    return this.details.status;
  }

  /** Trying the same again may help. */
  get isPassing(): boolean {
    return this.code === 'offline' || this.status === 503 || this.status === 429;
  }

  static offline(cause: unknown): Problem {
    const problem = new Problem({
      type: 'urn:tripline:problem:offline',
      title: 'The server does not answer',
      status: 0,
      code: 'offline',
      detail: 'The server does not answer. It may be restarting, or the network is down.',
    });
    problem.cause = cause;
    return problem;
  }

  static async of(response: Response): Promise<Problem> {
    const after = Number(response.headers.get('retry-after'));
    const retryAfter = Number.isFinite(after) && after > 0 ? after : null;
    const details = await response.json().catch(() => null) as Details | null;
    return new Problem(details?.code ? details : unreadable(response), retryAfter);
  }
}

/** An answer that is no problem document comes from something between us and the server. */
function unreadable(response: Response): Details {
  return {
    type: 'about:blank',
    title: response.statusText || 'Unexpected answer',
    status: response.status,
    code: 'unexpected',
    detail: `Something between the browser and the server answered ${response.status}.`,
  };
}

/** Null where there is no such thing: links outlive what they lead to. */
export async function orNone<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return null;
    throw error;
  }
}

export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new Problem({
    type: 'urn:tripline:problem:dashboard',
    title: 'The dashboard failed',
    status: 0,
    code: 'dashboard',
    detail: message,
  });
}
