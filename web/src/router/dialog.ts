/** Dialogs that the URL knows: `?do=backfill`. A reload and a shared link keep them, Back closes them. */
import { place } from './router.svelte';

export class Dialogue {
  /** What the URL says of it. */
  constructor(readonly name: string) {}

  get open(): boolean {
    return place.query.get('do') === this.name;
  }

  set open(open: boolean) {
    if (open) this.show();
    else if (this.open) place.takeBack('do', 'of');
  }

  /** Which of many it is about. */
  get of(): string | null {
    return this.open ? place.query.get('of') : null;
  }

  show(of: string | null = null): void {
    // From one dialog to the next is no step to go back to.
    place.setQuery({ do: this.name, of }, { push: !place.query.has('do') });
  }
}

/** For a query that closes it in the same step as it says what came of it. */
export const CLOSED = { do: null, of: null } as const;
