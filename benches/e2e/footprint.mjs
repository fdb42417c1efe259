// What a server costs when it has nothing to do, and how soon it is there: ready with an empty store
// and with a backlog, processor and memory with ten subscriptions. Prints a table.
//
//   cargo build --release && node benches/e2e/footprint.mjs [BACKLOG] [SECONDS]

import { Server, median } from "./server.mjs";

const backlog = Number(process.argv[2] ?? 100_000);
const seconds = Number(process.argv[3] ?? 20);

const rest = (ms) => new Promise((wake) => setTimeout(wake, ms));

const server = new Server();
try {
  const starts = [];
  for (let n = 0; n < 5; n++) {
    const empty = new Server();
    starts.push(await empty.start());
    await empty.stop();
    empty.remove();
  }
  console.log(`ready after ${median(starts).toFixed(0)} ms with an empty store (median of 5)`);

  await server.start();
  const source = "export default (order) => ({ gross: order.amount * 1.2 })";
  const script = await server.post("/api/v1/scripts", { name: "idle", language: "javascript", source });
  const made = [];
  for (let n = 0; n < 10; n++) {
    const body = { name: `idle-${n}`, script_id: script.id, event_type: `idle.n${n}` };
    made.push(await server.post("/api/v1/subscriptions", body));
  }
  // Each of them has run and keeps its runtime warm.
  const one = (n) => ({ type: `idle.n${n}`, data: { amount: n } });
  await server.post("/api/v1/events", Array.from({ length: 10 }, (_, n) => one(n)));
  await rest(2_000);
  const before = server.cpu();
  await rest(seconds * 1_000);
  const share = (server.cpu() - before) / (seconds * 10);
  console.log(`idle with 10 subscriptions: ${share.toFixed(2)} % of a core, ${server.memory().toFixed(1)} MiB (PSS)`);

  for (const { id } of made) await server.post(`/api/v1/subscriptions/${id}/pause`, {});
  for (let sent = 0; sent < backlog; sent += 1_000) {
    const batch = Array.from({ length: Math.min(1_000, backlog - sent) }, (_, n) => one(n % 10));
    await server.post("/api/v1/events", batch);
  }
  await server.kill();
  console.log(`ready after ${(await server.start()).toFixed(0)} ms with a backlog of ${backlog}, killed before`);
  for (const { id } of made) await server.post(`/api/v1/subscriptions/${id}/resume`, {});
  await rest(100);
  await server.kill();
  console.log(`ready after ${(await server.start()).toFixed(0)} ms, killed while it worked on the backlog`);
} finally {
  server.remove();
}
