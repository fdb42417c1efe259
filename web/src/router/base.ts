/**
 * The URL below which everything lies, with a slash at its end.
 *
 * The server does not know under which prefix a proxy shows it, but this module does know where
 * it was loaded from: `<base>/assets/….js` when built, `<base>/src/router/base.ts` in development.
 */
export const base: URL = new URL(import.meta.env.DEV ? '../../' : '../', import.meta.url);
