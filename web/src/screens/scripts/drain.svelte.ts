/** A source tried on every dead letter of a group: nothing it does is kept. */
import { api } from '../../api/client';
import { asProblem } from '../../api/problem';
import type { Language, LetterOut, TestOut } from '../../api/schema';
import type { LetterQuery } from '../dead-letters/search';

export interface Trial {
  letter: string;
  /** `null`: it passed. */
  error: string | null;
}

/** What a trial needs of the world; a test has its own. */
export interface World {
  letters: (cursor: string | undefined, signal: AbortSignal) => Promise<{ items: Pick<LetterOut, 'id'>[]; next?: string | null }>;
  test: (letter: string, signal: AbortSignal) => Promise<Pick<TestOut, 'outcome' | 'error'>>;
}

const AT_ONCE = 3;
const PAGE = 100;

export function worldOf(script: string, query: LetterQuery, source: string, language: Language): World {
  return {
    letters: (cursor, signal) => api.get('/api/v1/dead-letters', { query: { ...query, limit: PAGE, cursor }, signal }),
    test: (letter_id, signal) => api.post('/api/v1/scripts/{id}/test', { path: { id: script }, body: { letter_id, source, language, fetch: false }, signal }),
  };
}

export class DryRun {
  /** The source that was tried; what was found says nothing about another one. */
  source = $state<string | null>(null);
  passed = $state(0);
  failed = $state.raw<Trial[]>([]);
  isRunning = $state(false);
  /** It was stopped, or the letters could not be read: not all were tried. */
  problem = $state<string | null>(null);
  #abort: AbortController | null = null;

  get tried(): number {
    return this.passed + this.failed.length;
  }

  async start(source: string, world: World): Promise<void> {
    this.stop();
    const abort = (this.#abort = new AbortController());
    [this.source, this.passed, this.failed, this.problem, this.isRunning] = [source, 0, [], null, true];
    try {
      let cursor: string | undefined;
      do {
        const page = await world.letters(cursor, abort.signal);
        cursor = page.next ?? undefined;
        const waiting = page.items.map((letter) => letter.id);
        const work = async (): Promise<void> => {
          for (let id = waiting.shift(); id !== undefined && !abort.signal.aborted; id = waiting.shift()) await this.#try(id, world, abort.signal);
        };
        await Promise.all(Array.from({ length: AT_ONCE }, work));
      } while (cursor && !abort.signal.aborted);
    } catch (error) {
      if (this.#abort === abort && !abort.signal.aborted) this.problem = asProblem(error).message;
    } finally {
      if (this.#abort === abort) this.isRunning = false;
    }
  }

  stop(): void {
    if (this.isRunning) this.problem = 'Stopped: not all were tried.';
    this.isRunning = false;
    this.#abort?.abort();
    this.#abort = null;
  }

  async #try(letter: string, world: World, signal: AbortSignal): Promise<void> {
    let error: string | null;
    try {
      const out = await world.test(letter, signal);
      error = out.outcome === 'succeeded' ? null : ((out.error as { message?: string } | null)?.message ?? 'it failed');
    } catch (thrown) {
      if (signal.aborted) return;
      error = asProblem(thrown).message;
    }
    if (signal.aborted) return;
    if (error === null) this.passed += 1;
    else this.failed = [...this.failed, { letter, error }];
  }
}
