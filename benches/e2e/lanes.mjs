// What lanes cost: memory of an idle one and of each live subscription, and how soon the work of a lane
// that was killed with 100 runtimes goes on. Prints a table.
//
//   cargo build --release && node benches/e2e/lanes.mjs [RUNTIMES]

import { readFileSync } from "node:fs";

import { Server, median } from "./server.mjs";

const runtimes = Number(process.argv[2] ?? 100);
const rest = (ms) => new Promise((wake) => setTimeout(wake, ms));
const pss = (pid) => Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))[1]) / 1024;

const server = new Server("[lanes]\ncount = 1\n");
const pids = () => server.pids().filter((pid) => String(pid) !== String(server.process.pid));

try {
  await server.start();
  const idle = pids().map(pss);
  console.log(`an idle lane: ${median(idle).toFixed(1)} MiB (PSS, median of ${idle.length})`);

  const source = "export default (order) => ({ gross: order.amount * 1.2 })";
  const script = await server.post("/api/v1/scripts", { name: "live", language: "javascript", source });
  const ids = [];
  for (let n = 0; n < runtimes; n++) {
    const body = { name: `live-${n}`, script_id: script.id, event_type: "live.*" };
    ids.push((await server.post("/api/v1/subscriptions", body)).id);
  }
  let sent = 0;
  const settled = async () => (await server.get("/api/v1/stats")).deliveries.succeeded;
  const one = async () => {
    await server.post("/api/v1/events", { type: "live.order", data: { amount: 1 } });
    sent += runtimes;
    while ((await settled()) < sent) await rest(1);
  };
  // Enough quick runs for all of them to have proved themselves and to be on the fast lane.
  for (let n = 0; n < 20; n++) await one();
  const busy = pids().map(pss).reduce((sum, mib) => sum + mib, 0);
  const base = idle.reduce((sum, mib) => sum + mib, 0);
  console.log(`a live subscription: ${(((busy - base) * 1024) / runtimes).toFixed(0)} KiB (of ${runtimes})`);

  const quiet = [];
  for (let n = 0; n < 9; n++) {
    const began = performance.now();
    await one();
    quiet.push(performance.now() - began);
  }
  const first = [];
  const all = [];
  for (let n = 0; n < 9; n++) {
    // The largest of them is the one with the runtimes.
    const victim = pids().toSorted((a, b) => pss(b) - pss(a))[0];
    const before = await settled();
    const began = performance.now();
    process.kill(Number(victim), "SIGKILL");
    const event = server.post("/api/v1/events", { type: "live.order", data: { amount: 1 } });
    sent += runtimes;
    while ((await settled()) === before) await rest(1);
    first.push(performance.now() - began);
    await event;
    while ((await settled()) < sent) await rest(1);
    all.push(performance.now() - began);
    await rest(500);
  }
  console.log(`one event for ${runtimes} subscriptions: ${median(quiet).toFixed(1)} ms (median of 9)`);
  console.log(`the same as their lane is killed: ${median(first).toFixed(1)} ms to the first run, ${median(all).toFixed(1)} ms to the last`);
} finally {
  server.remove();
}
