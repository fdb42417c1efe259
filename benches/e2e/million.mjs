// A million dead letters and a million events that wait, made through the public door; then every list,
// count, group and statistic is asked, and the worst of some tries has to be under a bound.
//
//   cargo build --release && node benches/e2e/million.mjs [COUNT] [BOUND_MS] [TRIES]
//
// Prints a table. Exit code 1 when something was slower.

import { Server } from "./server.mjs";

const count = Number(process.argv[2] ?? 1_000_000);
const bound = Number(process.argv[3] ?? 100);
const tries = Number(process.argv[4] ?? 5);
const rest = (ms) => new Promise((wake) => setTimeout(wake, ms));

const server = new Server(
  `[supervisor.breaker]\ndead_letters = 0\n[limits]\nbacklog = 100000000\nsubscription_backlog = 100000000\n`,
);

/** A script that dies of six different errors, and says a number each time. */
const FAILS = `export default (order) => {
  if (order.n % 997 === 0) throw new TypeError('a needle in order ' + order.n);
  throw new Error('no ' + ['stock', 'price', 'address', 'buyer', 'bank'][order.n % 5] + ' for order ' + order.n);
}`;

async function subscribe(name, event_type, source, more = {}) {
  const script = await server.post("/api/v1/scripts", { name, language: "javascript", source });
  const body = { name, script_id: script.id, event_type, retry_policy: { max_attempts: 1 }, ...more };
  return { ...(await server.post("/api/v1/subscriptions", body)), script: script.id };
}

/** Publishes all events in batches, some at a time, and lets the server refuse. */
async function fill() {
  const batch = 1_000;
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const from = next;
      next += batch;
      const events = Array.from({ length: Math.min(batch, count - from) }, (_, i) => ({
        type: `shop.order.t${(from + i) % 20}`,
        source: "/shop",
        id: `o-${from + i}`,
        subject: (from + i) % 2 ? `customer-${(from + i) % 50_000}` : undefined,
        data: { n: from + i, amount: ((from + i) * 7) % 1000, pad: "x".repeat(100) },
      }));
      await publish(events);
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

async function publish(events) {
  for (;;) {
    try {
      return await server.post("/api/v1/events", events);
    } catch (error) {
      if (!/: (429|503)/.test(error.message)) throw error;
      await rest(200);
    }
  }
}

async function settled() {
  for (;;) {
    const { count: letters } = await server.get("/api/v1/dead-letters/count");
    if (letters >= count) return;
    process.stderr.write(`\r${letters} letters`);
    await rest(2_000);
  }
}

async function time(name, path, method = "GET", body) {
  const took = [];
  for (let i = 0; i < tries; i++) {
    const began = performance.now();
    const headers = { authorization: `Bearer ${server.token}`, "content-type": "application/json" };
    const answer = await fetch(server.url + path, { method, headers, body: body && JSON.stringify(body) });
    await answer.text();
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    took.push(performance.now() - began);
  }
  const worst = Math.max(...took);
  const median = took.toSorted((a, b) => a - b)[Math.floor(took.length / 2)];
  const mark = worst > bound ? " **slow**" : "";
  console.log(`| ${name} | ${median.toFixed(1)} | ${worst.toFixed(1)}${mark} |`);
  return worst <= bound;
}

const text = (value) => encodeURIComponent(value);

try {
  await server.start();
  const dies = await subscribe("dies", "shop.**", FAILS, { concurrency: 4 });
  const other = await subscribe("quiet", "other.**", "export default () => { throw new Error('other'); }");
  const waits = await subscribe("waits", "shop.**", "export default () => null");
  await server.ask("POST", `/api/v1/subscriptions/${waits.id}/pause`);
  const began = performance.now();
  await publish([{ type: "other.one", data: { n: 1 } }]);
  await fill();
  await settled();
  console.log(`${count} events, as many dead letters and as many that wait, in ${((performance.now() - began) / 1000).toFixed(0)} s\n`);
  const [letter] = (await server.get("/api/v1/dead-letters?limit=1")).items;
  const [event] = (await server.get("/api/v1/events?limit=1")).items;
  const half = new Date((Date.parse(event.accepted_at) + Date.now() - (performance.now() - began)) / 2).toISOString();
  const [group] = (await server.get("/api/v1/dead-letters/groups")).items;
  const dead = "/api/v1/dead-letters";
  const lists = [
    ["overview: statistics", "/api/v1/stats"],
    ["overview: series", "/api/v1/stats/series?minutes=60"],
    ["storage", "/api/v1/storage"],
    ["metrics", "/metrics"],
    ["actors", "/api/v1/actors"],
    ["subscriptions", "/api/v1/subscriptions"],
    ["a paused subscription", `/api/v1/subscriptions/${waits.id}`],
    ["scripts", "/api/v1/scripts"],
    ["scripts' activity", "/api/v1/scripts/activity"],
    ["events", "/api/v1/events"],
    ["events, 1,000 without deliveries", "/api/v1/events?limit=1000&deliveries=false&data=false"],
    ["events of a type", "/api/v1/events?type=shop.order.t3"],
    ["events of a pattern", "/api/v1/events?type=shop.**"],
    ["events of a type that there is not", "/api/v1/events?type=none.**"],
    ["events of a subject", "/api/v1/events?subject=customer-77"],
    ["events of a subject that there is not", "/api/v1/events?subject=nobody"],
    ["events of a source that there is not", "/api/v1/events?source=/none"],
    ["events until a time", `/api/v1/events?until=${half}`],
    ["events with a filter that few match", `/api/v1/events?filter=${text("$.n == 5")}`],
    ["events that nobody took", "/api/v1/events?unmatched=true"],
    ["one event", `/api/v1/events/${event.uid}`],
    ["runs", "/api/v1/runs"],
    ["runs of a subscription", `/api/v1/runs?subscription_id=${dies.id}`],
    ["runs of a quiet subscription", `/api/v1/runs?subscription_id=${other.id}`],
    ["runs of a script", `/api/v1/runs?script_id=${dies.script}`],
    ["runs that succeeded", "/api/v1/runs?outcome=succeeded"],
    ["runs of an error that there is not", "/api/v1/runs?error_kind=host_crash"],
    ["runs until a time", `/api/v1/runs?until=${half}`],
    ["letters", dead],
    ["dead letters, 1,000", `${dead}?status=dead&limit=1000`],
    ["letters of a status that there is not", `${dead}?status=replaying`],
    ["letters of a quiet subscription", `${dead}?subscription_id=${other.id}&status=dead`],
    ["letters of a script", `${dead}?script_id=${dies.script}`],
    ["letters of a type", `${dead}?event_type=shop.order.t7`],
    ["letters of a pattern", `${dead}?event_type=shop.**&status=dead`],
    ["letters of an error kind", `${dead}?error_kind=exception`],
    ["letters of an error kind that there is not", `${dead}?error_kind=timeout`],
    ["letters of a group", `${dead}?fingerprint=${group.fingerprint}`],
    ["letters until a time", `${dead}?until=${half}`],
    ["letters with a text", `${dead}?text=needle`],
    ["letters with a text that there is not", `${dead}?text=nothing`],
    ["one letter", `${dead}/${letter.id}`],
    ["count of letters", `${dead}/count`],
    ["count of the dead", `${dead}/count?status=dead`],
    ["count of a group", `${dead}/count?fingerprint=${group.fingerprint}`],
    ["count with a text", `${dead}/count?text=needle`],
    ["count until a time", `${dead}/count?until=${half}`],
    ["groups", `${dead}/groups`],
    ["groups of a subscription", `${dead}/groups?subscription_id=${dies.id}`],
    ["groups with a text", `${dead}/groups?text=needle`],
    ["delayed emits", "/api/v1/scheduled"],
    ["bulk operations", "/api/v1/bulk"],
    ["audit", "/api/v1/audit"],
  ];
  console.log(`| what | median ms | worst of ${tries} ms |\n|---|---|---|`);
  let fine = true;
  for (const [name, path] of lists) fine = (await time(name, path)) && fine;
  const none = { text: "nothing", rate: 1 };
  fine = (await time("a bulk discard begins", `${dead}/discard`, "POST", none)) && fine;
  const { wal_bytes, bytes } = await server.get("/api/v1/storage");
  console.log(`\nstore ${(bytes / 2 ** 20).toFixed(0)} MiB, log ${(wal_bytes / 2 ** 20).toFixed(0)} MiB, memory ${server.memory().toFixed(0)} MiB`);
  process.exitCode = fine ? 0 : 1;
} finally {
  server.remove();
}
