import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';

import { svelte } from '@sveltejs/vite-plugin-svelte';
import { svelteTesting } from '@testing-library/svelte/vite';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

/** Where `npm run dev` finds a running server. */
const server = process.env.TRIPLINE_URL ?? 'http://127.0.0.1:7070';

/** Text worth compressing; fonts are compressed already. */
const TEXT = /\.(js|css|svg|json|wasm)$/;

/** Writes `NAME.gz` beside each asset, so that the server never compresses anything itself. */
function gzipped(): Plugin {
  return {
    name: 'gzipped',
    apply: 'build',
    // Of what is on disk: chunks are still changed after `generateBundle`.
    writeBundle({ dir = 'dist' }, bundle) {
      for (const name of Object.keys(bundle).filter((name) => TEXT.test(name))) {
        const file = path.join(dir, name);
        writeFileSync(`${file}.gz`, gzipSync(readFileSync(file), { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  // Relative: the server may be mounted below a path prefix that nobody told it.
  base: './',
  plugins: [svelte(), svelteTesting(), gzipped()],
  build: {
    target: ['chrome123', 'firefox128', 'safari17.5'],
    // A font or an icon inlined as a data: URL is refused by the content security policy.
    assetsInlineLimit: 0,
    // Preloading adds no round trip worth its inline styles; chunks are few.
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  worker: { format: 'es' },
  server: {
    proxy: {
      '/api': { target: server, changeOrigin: true, headers: { origin: server } },
    },
  },
  test: {
    environment: 'jsdom',
    include: ['src/**/*.test.ts'],
    setupFiles: ['src/test-setup.ts'],
    restoreMocks: true,
    testTimeout: 60_000,
  },
});
