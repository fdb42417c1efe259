// A store of more than a gigabyte: backed up while events come, restored elsewhere and verified, against
// the clock. What publishers wait meanwhile is told beside what they waited before.
//
//   cargo build --release && node benches/e2e/backup.mjs [GIGABYTES]
//
// Prints a table. Exit code 1 when something that was acknowledged before the backup is not in it, or the
// restored store is not whole.

import { execFile, execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { binary, Server } from "./server.mjs";

const wanted = Number(process.argv[2] ?? 1.2) * 1024 ** 3;
const rest = (ms) => new Promise((wake) => setTimeout(wake, ms));
const seconds = (began) => `${((performance.now() - began) / 1000).toFixed(1)} s`;
const mib = (path) => `${Math.round(statSync(path).size / 1024 ** 2)} MiB`;

const server = new Server(
  "[limits]\nbacklog = 100000000\nsubscription_backlog = 100000000\n",
);
const elsewhere = mkdtempSync(join(tmpdir(), "tripline-restore-"));
const file = join(elsewhere, "store.backup");

let made = 0;
let accepted = 0;

/** A batch of events that do not compress well. */
function batch(size) {
  return Array.from({ length: size }, () => ({
    type: `shop.order.t${made % 20}`,
    source: "/shop",
    id: `o-${made++}`,
    data: { n: made, noise: Array.from({ length: 40 }, () => Math.random().toString(36).slice(2)).join("") },
  }));
}

async function publish(events) {
  for (;;) {
    try {
      await server.post("/api/v1/events", events);
      accepted += events.length;
      return;
    } catch (error) {
      if (!/: (429|503)/.test(error.message)) throw error;
      await rest(100);
    }
  }
}

/** Publishes single events at 200 a second until told to stop; milliseconds that each took. */
function paced() {
  const took = [];
  let stopped = false;
  const all = [];
  const run = (async () => {
    for (let next = performance.now(); !stopped; next += 5) {
      await rest(Math.max(0, next - performance.now()));
      const began = performance.now();
      all.push(publish(batch(1)).then(() => took.push(performance.now() - began)));
    }
    await Promise.all(all);
  })();
  return async () => {
    stopped = true;
    await run;
    return took.toSorted((a, b) => a - b);
  };
}

const p = (sorted, part) => `${sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))].toFixed(1)} ms`;
const rows = [];
const row = (what, ...figures) => rows.push(`| ${what} | ${figures.join(" | ")} |`);
let failed = false;

try {
  await server.start();
  const script = await server.post("/api/v1/scripts", { name: "echo", language: "javascript", source: "export default (order) => order.n" });
  await server.post("/api/v1/subscriptions", { name: "echo", script_id: script.id, event_type: "shop.**" });
  const store = join(server.home, "data", "tripline.db");
  while (statSync(store).size < wanted) {
    await Promise.all(Array.from({ length: 4 }, () => publish(batch(500))));
    process.stderr.write(`\r${mib(store)}`);
  }
  while ((await server.get("/api/v1/stats")).events.backlog > 0) await rest(500);
  row("store", mib(store), `${accepted} events`);

  let stop = paced();
  await rest(5_000);
  const quiet = await stop();

  const before = accepted;
  stop = paced();
  let began = performance.now();
  const environment = { ...process.env, TRIPLINE_URL: server.url, TRIPLINE_TOKEN: server.token };
  await promisify(execFile)(binary, ["backup", file], { env: environment });
  row("backup", seconds(began), mib(file));
  const loaded = await stop();
  row("publish before, p50 and p99", p(quiet, 0.5), p(quiet, 0.99));
  row("publish during the backup, p50 and p99", p(loaded, 0.5), p(loaded, 0.99));
  await server.stop();

  const data = join(elsewhere, "data");
  const cli = (...args) => execFileSync(binary, [...args, "--data", data], { cwd: elsewhere, encoding: "utf8" });
  began = performance.now();
  cli("restore", file);
  row("restore", seconds(began), mib(join(data, "tripline.db")));
  began = performance.now();
  const checks = JSON.parse(cli("verify", "--json"));
  const events = Math.max(...checks.map((check) => check.looked));
  row("verify", seconds(began), `${checks.length} checks`);
  failed ||= checks.some((check) => check.wrong > 0) || events < before;

  rmSync(store);
  cpSync(join(data, "tripline.db"), store);
  row("start of the restored store", `${Math.round(await server.start())} ms`, "");
  console.log(["| what | figure | |", "|---|---|---|", ...rows].join("\n"));
} finally {
  server.remove();
  rmSync(elsewhere, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
