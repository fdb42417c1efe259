/** Cursor pages as one growing list: what `createInfiniteQuery` wants to know about `{items, next}`. */

export interface Page<T> {
  items: T[];
  next?: string | null;
}

export const pages = {
  initialPageParam: undefined as string | undefined,
  getNextPageParam: (last: Page<unknown>): string | undefined => last.next ?? undefined,
};

/** All items of the pages that are loaded. */
export function allItems<T>(data: { pages: Page<T>[] } | undefined): T[] {
  return data?.pages.flatMap((page) => page.items) ?? [];
}
