import '@testing-library/jest-dom/vitest';

import { configure } from '@testing-library/svelte';
import { vi } from 'vitest';

// In a browser this follows from where the script was loaded; here there is no such place.
vi.mock('./router/base', () => ({ base: new URL('http://localhost:3000/') }));

// jsdom lays nothing out: there is no medium to ask about and no size to watch.
vi.stubGlobal('matchMedia', (media: string) => Object.assign(new EventTarget(), { media, matches: false }));
vi.stubGlobal(
  'ResizeObserver',
  class {
    observe(): void {}
    unobserve(): void {}
    disconnect(): void {}
  },
);

// A busy machine answers late: what passes costs nothing more.
configure({ asyncUtilTimeout: 15_000 });
