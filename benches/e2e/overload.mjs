// Overload: ten times the sustained rate, a thousand slow connections and a handler of five seconds, for
// some minutes. What has to hold is printed as a table; exit code 1 when something does not.
//
//   cargo build --release && node benches/e2e/overload.mjs [MINUTES] [SLOW_CONNECTIONS]
//
// The sustained rate is measured first: what the server settles of events whose handler computes for two
// milliseconds, so that the load comes from one machine. The load is open: it does not wait for answers.

import http from "node:http";
import net from "node:net";
import { readFileSync } from "node:fs";

import { Server } from "./server.mjs";

const minutes = Number(process.argv[2] ?? 10);
const slow = Number(process.argv[3] ?? 1_000);
const rest = (ms) => new Promise((wake) => setTimeout(wake, ms));
const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
const sort = (numbers) => numbers.toSorted((a, b) => a - b);

const server = new Server(`[limits]\nbacklog = 20000\n`);
const agent = new http.Agent({ keepAlive: true, maxSockets: 2_000 });

async function subscribe(name, event_type, source, limits) {
  const script = await server.post("/api/v1/scripts", { name, language: "javascript", source });
  const body = { name, script_id: script.id, event_type, limits };
  return (await server.post("/api/v1/subscriptions", body)).id;
}

/** Answers status, milliseconds and `Retry-After`. */
function publish(type) {
  const body = JSON.stringify({ type, data: { n: 1 } });
  const headers = { authorization: `Bearer ${server.token}`, "content-type": "application/json" };
  const began = performance.now();
  return new Promise((done) => {
    const request = http.request(`${server.url}/api/v1/events`, { method: "POST", agent, headers }, (answer) => {
      answer.resume();
      const told = { status: answer.statusCode, retry: answer.headers["retry-after"] };
      answer.on("end", () => done({ ...told, ms: performance.now() - began }));
    });
    request.on("error", (error) => done({ status: 0, error: error.code, ms: performance.now() - began }));
    request.end(body);
  });
}

/** Resident memory of the server and its lanes, in MiB. */
function rss() {
  const of = (pid) => {
    try {
      return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
    } catch {
      return 0;
    }
  };
  return server.pids().reduce((sum, pid) => sum + of(pid), 0) / 1024;
}

/** A connection that sends a byte in five seconds; answers how long the server bore it, in seconds. */
function trickle(until) {
  const began = performance.now();
  const socket = net.connect(Number(server.listen.split(":")[1]), "127.0.0.1");
  const head = "POST /api/v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n";
  // Half of them are slow in the head, the other half in the body.
  socket.write(Math.random() < 0.5 ? head : `${head}authorization: Bearer ${server.token}\r\n\r\n`);
  const drip = setInterval(() => socket.write("x"), 5_000);
  return new Promise((done) => {
    const end = () => {
      clearInterval(drip);
      done((performance.now() - began) / 1_000);
    };
    socket.on("error", () => {});
    socket.on("close", end);
    socket.resume();
    until.then(() => socket.destroy());
  });
}

/** Twenty events a second for a neighbour; milliseconds from publish to settled, sorted. */
async function neighbour(id, until) {
  const since = new Date().toISOString();
  let [refused, asked] = [0, 0];
  while (!until.done) {
    const { status } = await publish("calm.next");
    asked++;
    if (status !== 202) refused++;
    await rest(50);
  }
  await rest(500);
  const { items } = await server.get(`/api/v1/runs?subscription_id=${id}&from=${since}&limit=1000`);
  return { ms: sort(items.map((run) => run.queued_ms + run.duration_ms)), refused, asked };
}

const rows = [];
function row(what, found, holds) {
  rows.push(holds);
  console.log(`| ${what} | ${found} | ${holds ? "yes" : "**no**"} |`);
}

try {
  await server.start();
  const spin = "const until = Date.now() + 2; while (Date.now() < until) {}";
  const work = await subscribe("work", "load.**", `export default () => { ${spin} }`);
  const calm = await subscribe("calm", "calm.**", "export default () => null");
  const wait = "export default () => new Promise((wake) => setTimeout(wake, 5000))";
  const sleeper = await subscribe("sleeper", "sleep.**", wait, { wall_ms: 20_000 });

  // Quiet: a neighbour alone, then the rate that is sustained.
  await rest(1_000);
  const quiet = { done: false };
  setTimeout(() => (quiet.done = true), 8_000);
  const before = await neighbour(calm, quiet);
  const activity = async (id) => (await server.get(`/api/v1/subscriptions/${id}`)).activity;
  await server.ask("POST", `/api/v1/subscriptions/${work}/pause`);
  for (let i = 0; i < 3_000; i++) await publish("load.first");
  const began = performance.now();
  await server.ask("POST", `/api/v1/subscriptions/${work}/resume`);
  while ((await activity(work)).succeeded < 3_000) await rest(20);
  const sustained = 3_000 / ((performance.now() - began) / 1_000);
  const rate = sustained * 10;
  const baseline = rss();
  console.log(`sustained ${sustained.toFixed(0)}/s, offered ${rate.toFixed(0)}/s for ${minutes} min, ${slow} slow connections\n`);

  // Load.
  const over = { done: false };
  let ended;
  const end = new Promise((done) => (ended = done));
  const borne = Array.from({ length: slow }, () => trickle(end));
  const felt = neighbour(calm, over);
  const accepted = [];
  const refused = new Map();
  let sent = 0;
  let wrong = 0;
  const memory = [];
  const health = [];
  const finish = performance.now() + minutes * 60_000;
  const watch = setInterval(async () => {
    memory.push([performance.now(), rss()]);
    const asked = performance.now();
    await fetch(`${server.url}/healthz`).catch(() => {});
    health.push(performance.now() - asked);
  }, 1_000);
  const naps = setInterval(() => publish("sleep.now"), 1_000);
  let [due, open, left] = [performance.now(), 0, 0];
  while (performance.now() < finish) {
    const now = performance.now();
    while (due < now) {
      due += 1_000 / rate;
      // What a client cannot even send is offered, too.
      if (open >= 2_000) {
        left++;
        continue;
      }
      open++;
      sent++;
      publish("load.more").then((answer) => {
        open--;
        if (answer.status === 202) return accepted.push(answer.ms);
        refused.set(answer.status, (refused.get(answer.status) ?? 0) + 1);
        if (![429, 503].includes(answer.status) || !/^\d+$/.test(answer.retry ?? "")) wrong++;
      });
    }
    await rest(5);
  }
  clearInterval(naps);
  clearInterval(watch);
  over.done = true;
  const beside = await felt;
  while (open > 0) await rest(50);

  // Quiet again.
  const calmed = performance.now();
  let quietAfter = Infinity;
  while (performance.now() - calmed < 60_000) {
    const since = { done: false };
    setTimeout(() => (since.done = true), 3_000);
    const { ms, refused: no } = await neighbour(calm, since);
    if (no === 0 && at(ms, 0.99) <= Math.max(2 * at(before.ms, 0.99), 5)) {
      quietAfter = (performance.now() - calmed) / 1_000;
      break;
    }
  }
  // Nothing that was accepted is lost: everything settles.
  let seen = await activity(work);
  for (let i = 0; i < 300 && seen.succeeded + seen.dead < accepted.length + 3_000; i++) {
    await rest(1_000);
    seen = await activity(work);
  }
  ended();
  const longest = Math.max(...(await Promise.all(borne)));

  const latencies = sort(accepted);
  const after2 = memory.filter(([when]) => when > finish - minutes * 60_000 + 120_000).map(([, mib]) => mib);
  const third = Math.floor(after2.length / 3);
  const mean = (all) => all.reduce((sum, one) => sum + one, 0) / Math.max(1, all.length);
  const grown = third > 10 ? mean(after2.slice(-third)) - mean(after2.slice(0, third)) : 0;
  const peak = Math.max(...memory.map(([, mib]) => mib));
  const told = [...refused].map(([status, count]) => `${count} x ${status}`).join(", ");
  console.log("| what has to hold | found | holds |\n|---|---|---|");
  row("memory at most baseline + 256 MiB", `${baseline.toFixed(0)} + ${(peak - baseline).toFixed(0)} MiB`, peak - baseline <= 256);
  if (third > 10) row("memory flat after minute 2", `${grown.toFixed(1)} MiB from the first to the last third`, grown <= 16);
  const share = accepted.length / (sustained * minutes * 60);
  row("at least 90% of what is sustained is accepted", `${(share * 100).toFixed(0)}%`, share >= 0.9);
  row("accepted: p99 under 500 ms", `${at(latencies, 0.99).toFixed(0)} ms of ${accepted.length}`, at(latencies, 0.99) < 500);
  row("the rest 429 or 503 with an integer Retry-After", `${told || "none"}, ${wrong} wrong`, wrong === 0);
  const [quietly, loaded] = [at(before.ms, 0.99), at(beside.ms, 0.99)];
  const heard = `${quietly.toFixed(1)} ms quiet, ${loaded.toFixed(1)} ms loaded, of ${beside.ms.length}; ${beside.refused} of ${beside.asked} refused`;
  row("other subscription: p99 within 2x", heard, loaded <= 2 * quietly && beside.ms.length >= 100);
  row("quiet again within 30 s", `${quietAfter.toFixed(1)} s`, quietAfter <= 30);
  row("nothing accepted is lost", `${accepted.length + 3_000} accepted, ${seen.succeeded + seen.dead} settled`, seen.succeeded + seen.dead === accepted.length + 3_000);
  row("slow connections closed within 30 s", `the longest lived ${longest.toFixed(1)} s`, longest <= 30);
  row("/healthz within a second", `worst ${Math.max(...health).toFixed(0)} ms`, Math.max(...health) <= 1_000);
  const slept = await activity(sleeper);
  console.log(`\n${left} of ${sent + left} were not sent, for 2,000 were open; sleeper: ${slept.succeeded} ended`);
  process.exitCode = rows.every(Boolean) ? 0 : 1;
} finally {
  server.remove();
}
