/** Who is logged in, and what they may do. */
import { api, whenUnauthorized } from './client';
import { Problem } from './problem';
import type { Role, SessionOut } from './schema';

const RANK: Record<Role, number> = { publisher: 0, viewer: 1, editor: 2, admin: 3 };

class Session {
  /** `undefined` while nobody knows yet, `null` when nobody is logged in. */
  who = $state<SessionOut | null | undefined>(undefined);
  /** Why it is not known: the server does not answer. */
  problem = $state<Problem | null>(null);

  /** Whether the role covers `role`: what it may not do is not shown. */
  can(role: Role): boolean {
    return this.who != null && RANK[this.who.role] >= RANK[role];
  }

  async load(): Promise<void> {
    this.problem = null;
    try {
      this.who = await api.get('/api/v1/session');
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 401 || error.status === 403) this.who = null;
      else this.problem = error;
    }
  }

  async logIn(credentials: { token: string } | { code: string }): Promise<void> {
    this.who = await api.post('/api/v1/session', { body: credentials });
  }

  async logOut(): Promise<void> {
    await api.delete('/api/v1/session');
    this.who = null;
  }
}

export const session = new Session();

whenUnauthorized(() => {
  session.who = null;
});
