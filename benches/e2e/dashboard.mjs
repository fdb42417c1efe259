// What an open dashboard costs at 2,000 events/s: CPU of the browser, and what the server needs and
// settles with it and without it, in interleaved pairs. Prints a table; nothing is asserted.
//
//   cargo build --release && node benches/e2e/dashboard.mjs [PAIRS] [EVENTS_PER_SECOND]
//
// Needs Chromium, and `npm ci --prefix web` for what drives it.

import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";

import { Server, median } from "./server.mjs";

const require = createRequire(new URL("../../web/package.json", import.meta.url));
const { chromium } = require("@playwright/test");

const pairs = Number(process.argv[2] ?? 10);
const rate = Number(process.argv[3] ?? 2_000);
const SPAN_MS = 5_000;
const BATCH = 20;
const TICKS_PER_SECOND = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

/** CPU seconds that a process and all below it have used. */
function cpuOf(root) {
  const stats = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const text = readFileSync(`/proc/${pid}/stat`, "utf8");
      const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
      stats.set(Number(pid), { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) });
    } catch {
      // It ended meanwhile.
    }
  }
  const below = (pid) => pid === root || (stats.has(pid) && below(stats.get(pid).parent));
  let ticks = 0;
  for (const [pid, one] of stats) if (below(pid)) ticks += one.ticks;
  return ticks / TICKS_PER_SECOND;
}

/** Publishes at the rate for a span; answers with events settled a second and CPU used. */
async function load(server, browserPid) {
  const settled = async () => (await server.ask("GET", "/api/v1/subscriptions")).items[0].activity.succeeded;
  const before = [await settled(), server.cpu() / 1000, browserPid ? cpuOf(browserPid) : 0];
  const began = performance.now();
  const open = new Set();
  for (let sent = 0; performance.now() - began < SPAN_MS; ) {
    const due = ((performance.now() - began) / 1000) * rate;
    while (sent < due) {
      const events = Array.from({ length: BATCH }, (_, n) => ({ type: "order.placed", data: { n: sent + n, price: 7.5 } }));
      const asked = server.ask("POST", "/api/v1/events", events).finally(() => open.delete(asked));
      open.add(asked);
      sent += BATCH;
    }
    await new Promise((wake) => setTimeout(wake, 10));
  }
  await Promise.all(open);
  const seconds = (performance.now() - began) / 1000;
  const after = [await settled(), server.cpu() / 1000, browserPid ? cpuOf(browserPid) : 0];
  const [events, ours, theirs] = after.map((one, at) => one - before[at]);
  return { perSecond: events / seconds, cpu: ours / seconds, browser: theirs / seconds };
}

async function dashboard(server, path) {
  const executablePath = process.env.CHROMIUM ?? execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim();
  const marker = `--tripline-bench-${Math.random().toString(36).slice(2)}`;
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", marker] });
  const pid = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((name) => {
    try {
      const line = readFileSync(`/proc/${name}/cmdline`, "utf8");
      return line.includes(marker) && !line.includes("--type=");
    } catch {
      return false;
    }
  })[0];
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await page.request.post(`${server.url}/api/v1/session`, { data: { token: server.token } });
  await page.goto(server.url + path);
  await page.getByRole("heading", { level: 1 }).waitFor();
  return { browser, pid };
}

const server = new Server();
try {
  await server.start();
  const script = await server.post("/api/v1/scripts", { name: "bench", language: "javascript", source: "export default (order) => order.price * 2" });
  await server.post("/api/v1/subscriptions", { name: "bench", script_id: script.id, event_type: "order.*" });
  await load(server);
  for (const path of ["/", "/events", "/subscriptions"]) {
    const found = { closed: [], open: [], rates: [], cpus: [] };
    for (let pair = 0; pair < pairs; pair++) {
      const closed = async () => found.closed.push(await load(server));
      const open = async () => {
        const { browser, pid } = await dashboard(server, path);
        // What the start of a browser costs is not what an open page costs.
        await new Promise((wake) => setTimeout(wake, 1_500));
        found.open.push(await load(server, pid));
        await browser.close();
      };
      for (const one of pair % 2 ? [open, closed] : [closed, open]) await one();
      found.rates.push(found.open.at(-1).perSecond / found.closed.at(-1).perSecond);
      found.cpus.push(found.open.at(-1).cpu / found.closed.at(-1).cpu);
    }
    const browser = median(found.open.map((one) => one.browser));
    console.log(`${path}: browser ${(browser * 100).toFixed(0)} % of a core; settled/s ${median(found.open.map((one) => one.perSecond)).toFixed(0)}, ${median(found.rates).toFixed(3)} of that without; server CPU ${(median(found.open.map((one) => one.cpu)) * 100).toFixed(0)} %, ${median(found.cpus).toFixed(2)} times (medians of ${pairs} pairs)`);
  }
} finally {
  await server.stop().catch(() => {});
  server.remove();
}
