/**
 * Rank 0 as weightcast is: plan → prepare → run, with the settings of a push. argv: checkpoint, world size, packed buffer bytes.
 * Prints the unique id, and at the end a line of JSON: what it took from the first read to the last byte sent.
 */
import { readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { emulatorLibraries, native } from '#weightcast/native.js';
import { stagingFor } from '#weightcast/transports/nccl/wire/memory.js';
import { planWire } from '#weightcast/transports/nccl/wire/plan.js';
import { openCheckpoint } from '#weightcast/weights/checkpoint.js';
import { flattenPlan } from '#weightcast/weights/flatten.js';
import { orderForLoading } from '#weightcast/weights/order.js';
import type { Sent } from './contestant.js';

const TIMEOUT_MS = 120_000;

const [directory = '', worldSize, bufferBytes] = process.argv.slice(2);
const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};
const peakResident = (): number =>
  Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;

const runtime = await native().open(emulatorLibraries.cuda, emulatorLibraries.nccl);
const communicator = await runtime.communicator(0);
const uniqueId = await runtime.uniqueId();
print(Buffer.from(uniqueId).toString('hex'));
await communicator.init({ uniqueId, worldSize: Number(worldSize), rank: 0, timeoutMs: TIMEOUT_MS });
await communicator.allReduce(Float32Array.of(0), TIMEOUT_MS);

const packing = { bufferBytes: Number(bufferBytes), numBuffers: 2 };
async function prepare() {
  const checkpoint = await openCheckpoint(directory);
  const plan = planWire(orderForLoading(checkpoint.tensors), packing);
  const staging = stagingFor(plan);
  const native = flattenPlan(plan.frames, checkpoint.files, staging);
  return { staging, transfer: await communicator.prepare(native, TIMEOUT_MS) };
}
// As in every update of a session but the first one, staging memory is there: the emulated one costs time when it is first used.
await (await prepare()).transfer.close();

const delay = monitorEventLoopDelay({ resolution: 1 });
const cpuBefore = process.cpuUsage();
delay.enable();
const began = performance.now();
const { staging, transfer } = await prepare();
const prepared = performance.now();
let reports = 0;
const stats = await transfer.run(TIMEOUT_MS, () => {
  reports += 1;
});
const ended = performance.now();
delay.disable();
const { user, system } = process.cpuUsage(cpuBefore);
await transfer.close();

const sent: Sent = {
  seconds: (ended - began) / 1e3,
  cpuSeconds: (user + system) / 1e6,
  peakBytes: peakResident(),
  ours: {
    runSeconds: (ended - prepared) / 1e3,
    stagingBytes: staging.peakBytes.device + staging.peakBytes.pinned,
    loopDelayP99Ms: delay.percentile(99) / 1e6,
    reports,
    readMs: stats.readMs,
    copyMs: stats.copyMs,
    broadcastMs: stats.broadcastMs,
  },
};
print(JSON.stringify(sent));
await communicator.destroy(TIMEOUT_MS);
