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

/** All items of a list, asked for page by page: where a part of it would be taken for the whole. */
export async function readAll<T>(read: (cursor: string | undefined) => Promise<Page<T>>): Promise<T[]> {
  const items: T[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await read(cursor);
    items.push(...page.items);
    if (!page.next) return items;
    cursor = page.next;
  }
}

/** All items of the pages that are loaded. */
export function allItems<T>(data: { pages: Page<T>[] } | undefined): T[] {
  return data?.pages.flatMap((page) => page.items) ?? [];
}
