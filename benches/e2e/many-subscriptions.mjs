// A server with 100,000 subscriptions beside one with ten: start, memory, and what publishing and
// delivery lose. Prints a table; nothing is asserted, for machines differ.
//
//   cargo build --release && node benches/e2e/many-subscriptions.mjs [SUBSCRIPTIONS] [PAIRS]

import { Server, median } from "./server.mjs";

const many = Number(process.argv[2] ?? 100_000);
const pairs = Number(process.argv[3] ?? 10);

/** Adds subscriptions that take none of the benchmark's events, though they are of its type. */
async function subscribe(server, count) {
  const source = "export default () => null";
  const script = await server.post("/api/v1/scripts", { name: "idle", language: "javascript", source });
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const n = next++;
      await server.post("/api/v1/subscriptions", {
        name: `idle-${n}`,
        script_id: script.id,
        event_type: "bench.first",
        filter: `$.currency == "CUR${n}" && $.amount > ${n % 1000}`,
      });
    }
  };
  await Promise.all(Array.from({ length: 32 }, worker));
}

const [few, lots] = [new Server(), new Server()];
try {
  await Promise.all([few.start(), lots.start()]);
  await subscribe(few, 10);
  const began = performance.now();
  await subscribe(lots, many);
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
  few.remove();
  lots.remove();
}
