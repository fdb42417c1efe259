/**
 * The data layer's rules in one place: what is asked again, when, and under which key.
 *
 * Keys begin with the resource, so that the live feed can say "subscriptions changed" and every list,
 * page and count of them is read again.
 */
import { MutationCache, QueryCache, QueryClient } from '@tanstack/svelte-query';

import { Problem } from './problem';

export type Resource =
  | 'actors'
  | 'audit'
  | 'bulk'
  | 'config'
  | 'dead-letters'
  | 'event-types'
  | 'events'
  | 'hooks'
  | 'kv'
  | 'runs'
  | 'scheduled'
  | 'scripts'
  | 'secrets'
  | 'stats'
  | 'storage'
  | 'subscriptions'
  | 'tokens';

/** `key('events', uid)`, `key('events', 'list', search)`. */
export function key(resource: Resource, ...rest: unknown[]): unknown[] {
  return [resource, ...rest];
}

/** Passing failures are tried again; a refusal stays one. */
function worthRetrying(failures: number, error: unknown): boolean {
  return failures < 3 && error instanceof Problem && error.isPassing;
}

export function createClient(onFailure: (problem: unknown) => void): QueryClient {
  return new QueryClient({
    queryCache: new QueryCache(),
    mutationCache: new MutationCache({
      onError: (error, _variables, _context, mutation) => {
        // A mutation with an `onError` of its own shows the failure where it happened.
        if (!mutation.options.onError) onFailure(error);
      },
    }),
    defaultOptions: {
      queries: {
        staleTime: 5_000,
        gcTime: 10 * 60_000,
        retry: worthRetrying,
        retryDelay: (attempt) => Math.min(1_000 * 2 ** attempt, 10_000),
        refetchOnWindowFocus: true,
        networkMode: 'always',
      },
      mutations: { networkMode: 'always' },
    },
  });
}
