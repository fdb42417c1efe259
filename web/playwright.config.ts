import { execFileSync } from 'node:child_process';

import { defineConfig } from '@playwright/test';

/** The browser of the system: nothing is downloaded. */
function chromium(): string {
  return process.env.CHROMIUM ?? execFileSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' }).trim();
}

export default defineConfig({
  testDir: 'e2e',
  testMatch: process.env.SCREENSHOTS ? 'screenshots.ts' : '*.test.ts',
  fullyParallel: true,
  workers: 2,
  forbidOnly: Boolean(process.env.CI),
  // A browser on a busy machine may be late once; what passes on the second try is reported as flaky.
  retries: process.env.CI ? 1 : 0,
  // Waits end when what they wait for is there: long ones cost only what fails.
  timeout: 180_000,
  expect: { timeout: 30_000 },
  reporter: [['list']],
  outputDir: 'node_modules/.cache/playwright',
  use: {
    launchOptions: { executablePath: chromium(), args: ['--no-sandbox', '--disable-dev-shm-usage', '--host-resolver-rules=MAP tripline.test 127.0.0.1'] },
    viewport: { width: 1280, height: 800 },
    trace: 'retain-on-failure',
    locale: 'en-GB',
    timezoneId: 'Europe/Berlin',
  },
});
