// A server of its own for a benchmark: started, asked, measured and removed.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** What is measured; a release build. */
export const binary = resolve(process.env.TRIPLINE_BIN ?? "target/release/tripline");

export const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

export class Server {
  /** `config` is the text of a `tripline.toml`. */
  constructor(config = "") {
    this.listen = `127.0.0.1:${20_000 + Math.floor(Math.random() * 10_000)}`;
    this.url = `http://${this.listen}`;
    this.home = mkdtempSync(join(tmpdir(), "tripline-bench-"));
    if (config) writeFileSync(join(this.home, "tripline.toml"), config);
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

  /** As a power cut: the whole process tree at once. */
  async kill() {
    const gone = new Promise((done) => this.process.once("exit", done));
    this.process.kill("SIGKILL");
    await gone;
  }

  remove() {
    this.process?.kill("SIGKILL");
    rmSync(this.home, { recursive: true, force: true });
  }

  async ask(method, path, body) {
    const headers = { authorization: `Bearer ${this.token}`, "content-type": "application/json" };
    const answer = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  get = (path) => this.ask("GET", path);

  post = (path, body) => this.ask("POST", path, body);

  /** The server and its lanes. */
  pids() {
    const pids = [this.process.pid];
    for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      if (Number(stat(entry)?.[1]) === this.process.pid) pids.push(entry);
    }
    return pids;
  }

  /** CPU time of the server and its lanes so far, in milliseconds. */
  cpu() {
    const ticks = (pid) => Number(stat(pid)?.[11] ?? 0) + Number(stat(pid)?.[12] ?? 0);
    return this.pids().reduce((sum, pid) => sum + ticks(pid), 0) * 10;
  }

  /** Proportional set size of the server and its lanes, in MiB. */
  memory() {
    const pss = (pid) => /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0;
    return this.pids().reduce((sum, pid) => sum + Number(pss(pid)), 0) / 1024;
  }

  bench(scenario) {
    const args = ["bench", scenario, "--seconds", "3", "--json", "--server", this.url, "--token", this.token];
    return JSON.parse(execFileSync(binary, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })).scenarios[0];
  }
}

/** The fields of a process's stat from the third on; nothing when it is gone. */
function stat(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}
