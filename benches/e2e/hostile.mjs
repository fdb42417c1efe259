// The hostile corpus, each script beside a neighbour who gets 20 events/s: what became of it, how long
// that took, and what the neighbour felt. Prints a table; nothing is asserted (`tests/it/hostile.rs` does).
//
//   cargo build --release && node benches/e2e/hostile.mjs [process|thread]

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { Server } from "./server.mjs";

const isolation = process.argv[2] ?? "process";
const folder = join(import.meta.dirname, "../../tests/hostile");
const rest = (ms) => new Promise((wake) => setTimeout(wake, ms));

const server = new Server(`[lanes]\nisolation = "${isolation}"\n`);

/** A script with a subscription of its own; answers the subscription's id. */
async function subscribe(name, event_type, source) {
  const script = await server.post("/api/v1/scripts", { name, language: "javascript", source });
  const limits = { wall_ms: 3_000 };
  const body = { name, script_id: script.id, event_type, limits, retry_policy: { max_attempts: 1 } };
  return (await server.post("/api/v1/subscriptions", body)).id;
}

const activity = async (id) => (await server.get(`/api/v1/subscriptions/${id}`)).activity;

/** Publishes to the neighbour until told to stop; answers milliseconds to the end of each run. */
async function neighbour(id, until) {
  const since = new Date().toISOString();
  while (!until.done) {
    await server.post("/api/v1/events", { type: "calm.next", data: {} });
    await rest(50);
  }
  await rest(100);
  const runs = await server.get(`/api/v1/runs?subscription_id=${id}&from=${since}&limit=1000`);
  return runs.items.map((run) => run.queued_ms + run.duration_ms).toSorted((a, b) => a - b);
}

const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;

try {
  await server.start();
  const calm = await subscribe("neighbour", "calm.*", "export default () => null");
  await server.post("/api/v1/events", { type: "calm.first", data: {} });
  await rest(500);
  const quiet = { done: false };
  setTimeout(() => (quiet.done = true), 5_000);
  const before = await neighbour(calm, quiet);
  const memory = server.memory();
  console.log(`${isolation} lanes; neighbour when quiet: p99 ${at(before, 0.99).toFixed(2)} ms, ${memory.toFixed(0)} MiB\n`);
  console.log("| script | outcome | stopped after ms | neighbour p99 ms |\n|---|---|---|---|");
  const all = [];
  for (const file of readdirSync(folder).toSorted()) {
    const source = readFileSync(join(folder, file), "utf8");
    // Nothing but the end of its process stops it.
    if (isolation === "thread" && source.startsWith("// expect: killed")) continue;
    const name = file.replace(/\.js$/, "");
    const id = await subscribe(name, `hostile.${name}`, source).catch(() => null);
    if (!id) {
      console.log(`| ${name} | refused when saved | - | - |`);
      continue;
    }
    const until = { done: false };
    const felt = neighbour(calm, until);
    const began = performance.now();
    await server.post("/api/v1/events", { type: `hostile.${name}`, data: { amount: 10 } });
    let seen = await activity(id);
    while (seen.succeeded + seen.dead === 0) {
      await rest(5);
      seen = await activity(id);
    }
    const took = performance.now() - began;
    // At least a second beside it, for a p99 to mean anything.
    await rest(Math.max(0, 1_000 - took));
    until.done = true;
    const times = await felt;
    all.push(...times);
    const outcome = seen.last_error?.split(":")[0] ?? "succeeded";
    console.log(`| ${name} | ${outcome} | ${took.toFixed(0)} | ${at(times, 0.99).toFixed(2)} |`);
    await server.ask("DELETE", `/api/v1/subscriptions/${id}?discard=true`).catch(() => {});
  }
  all.sort((a, b) => a - b);
  await rest(5_000);
  const [p50, p99, worst] = [0.5, 0.99, 1].map((share) => at(all, share).toFixed(2));
  console.log(`\nneighbour over all: p50 ${p50} ms, p99 ${p99} ms, worst ${worst} ms, ${all.length} runs`);
  const seen = await activity(calm);
  console.log(`neighbour: ${seen.succeeded} succeeded, ${seen.failed + seen.dead} failed, ${seen.backlog} left; memory ${server.memory().toFixed(0)} MiB`);
} finally {
  server.remove();
}
