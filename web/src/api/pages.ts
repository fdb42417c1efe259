/** Cursor pages as one growing list: what `createInfiniteQuery` wants to know about `{items, next}`. */

export interface Page<T> {
  items: T[];
  next?: string | null;
}

export const pages = {
  initialPageParam: undefined as string | undefined,
  getNextPageParam: (last: Page<unknown>): string | undefined => last.next ?? undefined,
  /** Coming back to the window does not read again all that was scrolled through. */
  refetchOnWindowFocus: (query: { state: { data?: { pages: unknown[] } | undefined } }): boolean => (query.state.data?.pages.length ?? 0) <= 1,
};

/** The newest page alone: the older ones are read again when they come into sight. */
export function firstPage<T extends { pages: unknown[]; pageParams: unknown[] }>(data: T | undefined): T | undefined {
  return data && { ...data, pages: data.pages.slice(0, 1), pageParams: data.pageParams.slice(0, 1) };
}

/** All items of the pages that are loaded. */
export function allItems<T>(data: { pages: Page<T>[] } | undefined): T[] {
  return data?.pages.flatMap((page) => page.items) ?? [];
}
