// A server with 100,000 subscriptions beside one with ten: start, memory, and what publishing and
// delivery lose. Prints a table; nothing is asserted, for machines differ.
//
//   cargo build --release && node benches/e2e/many-subscriptions.mjs [SUBSCRIPTIONS] [PAIRS]

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const binary = process.env.TRIPLINE_BIN ?? "target/release/tripline";
const many = Number(process.argv[2] ?? 100_000);
const pairs = Number(process.argv[3] ?? 10);

class Server {
  constructor(port) {
    this.url = `http://127.0.0.1:${port}`;
    this.home = mkdtempSync(join(tmpdir(), "tripline-many-"));
    this.listen = `127.0.0.1:${port}`;
  }

  /** Starts, and returns the milliseconds until it was ready. */
  async start() {
    const began = performance.now();
    const data = join(this.home, "data");
    this.process = spawn(binary, ["serve", "--data", data, "--listen", this.listen], {
      cwd: this.home,
      stdio: "ignore",
    });
    for (;;) {
      const ready = await fetch(`${this.url}/readyz`).catch(() => null);
      if (ready?.ok) break;
      await new Promise((wake) => setTimeout(wake, 5));
    }
    this.token = readFileSync(join(data, "admin.token"), "utf8").trim();
    return performance.now() - began;
  }

  async stop() {
    const gone = new Promise((done) => this.process.once("exit", done));
    this.process.kill("SIGTERM");
    await gone;
  }

  async post(path, body) {
    const headers = { authorization: `Bearer ${this.token}`, "content-type": "application/json" };
    const answer = await fetch(this.url + path, { method: "POST", headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** Adds subscriptions that take none of the benchmark's events, though they are of its type. */
  async subscribe(count) {
    const source = "export default () => null";
    const script = await this.post("/api/v1/scripts", { name: "idle", language: "javascript", source });
    let next = 0;
    const worker = async () => {
      while (next < count) {
        const n = next++;
        await this.post("/api/v1/subscriptions", {
          name: `idle-${n}`,
          script_id: script.id,
          event_type: "bench.first",
          filter: `$.currency == "CUR${n}" && $.amount > ${n % 1000}`,
        });
      }
    };
    await Promise.all(Array.from({ length: 32 }, worker));
  }

  /** Proportional set size of the server and its lanes, in MiB. */
  memory() {
    const pids = [this.process.pid];
    for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      try {
        const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
        if (Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === this.process.pid) pids.push(entry);
      } catch {
        // It ended while we looked.
      }
    }
    const pss = (pid) => /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0;
    return pids.reduce((sum, pid) => sum + Number(pss(pid)), 0) / 1024;
  }

  bench(scenario) {
    const args = ["bench", scenario, "--seconds", "3", "--json", "--server", this.url, "--token", this.token];
    return JSON.parse(execFileSync(binary, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })).scenarios[0];
  }
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

const port = 20_000 + Math.floor(Math.random() * 10_000);
const [few, lots] = [new Server(port), new Server(port + 1)];
try {
  await Promise.all([few.start(), lots.start()]);
  await few.subscribe(10);
  const began = performance.now();
  await lots.subscribe(many);
  console.log(`${many} subscriptions added in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  await Promise.all([few.stop(), lots.stop()]);
  console.log(`ready after ${(await few.start()).toFixed(0)} ms with 10`);
  console.log(`ready after ${(await lots.start()).toFixed(0)} ms with ${many}`);
  console.log(`memory ${few.memory().toFixed(0)} MiB with 10, ${lots.memory().toFixed(0)} MiB with ${many}`);
  for (const scenario of ["single", "batch"]) {
    const ratios = [];
    for (let pair = 0; pair < pairs; pair++) {
      const [first, second] = pair % 2 ? [lots, few] : [few, lots];
      const one = first.bench(scenario).settled_per_s;
      const two = second.bench(scenario).settled_per_s;
      ratios.push(pair % 2 ? one / two : two / one);
    }
    console.log(`${scenario}: settled/s with ${many} is ${median(ratios).toFixed(2)} of that with 10 (median of ${pairs} pairs)`);
  }
  console.log(`memory after: ${lots.memory().toFixed(0)} MiB with ${many}`);
} finally {
  for (const server of [few, lots]) {
    server.process?.kill("SIGKILL");
    rmSync(server.home, { recursive: true, force: true });
  }
}
