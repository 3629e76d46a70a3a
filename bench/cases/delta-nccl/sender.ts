/**
 * Rank 0 as weightcast is: the version before, untimed; then, everything staged, the new one or the delta (JSON on stdin) between all-reduces of all ranks. argv: base,
 * new version, world size.
 */
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { emulatorLibraries, native } from '#weightcast/native.js';
import type { Frame } from '#weightcast/transports/nccl/wire/frame.js';
import { sizesOf } from '#weightcast/transports/nccl/wire/frame.js';
import { stagingFor } from '#weightcast/transports/nccl/wire/memory.js';
import { openCheckpoint } from '#weightcast/weights/checkpoint.js';
import { flattenPlan } from '#weightcast/weights/flatten.js';
import type { Sent } from '../transfer/contestant.js';
import { wholeOf } from './plans.js';

const TIMEOUT_MS = 300_000;
const [baseDirectory = '', nextDirectory = '', worldSize] = process.argv.slice(2);
const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

const runtime = await native().open(emulatorLibraries.cuda, emulatorLibraries.nccl);
const communicator = await runtime.communicator(0);
const uniqueId = await runtime.uniqueId();
print(Buffer.from(uniqueId).toString('hex'));
const given = await text(process.stdin);
await communicator.init({ uniqueId, worldSize: Number(worldSize), rank: 0, timeoutMs: TIMEOUT_MS });
const meet = () => communicator.allReduce(Float32Array.of(0), TIMEOUT_MS);
await meet();

type Files = readonly { readonly path: string; readonly byteLength: number }[];
const prepare = (frames: readonly Frame[], files: Files) =>
  communicator.prepare(flattenPlan(frames, files, stagingFor(sizesOf(frames))), TIMEOUT_MS);
const whole = async (directory: string) => {
  const checkpoint = await openCheckpoint(directory);
  return prepare(wholeOf(checkpoint).plan.frames, checkpoint.files);
};

const first = await whole(baseDirectory);
await first.run(TIMEOUT_MS, null);
await first.close();

const { frames, files } =
  given === '' ? { frames: [], files: [] } : (JSON.parse(given) as { frames: Frame[]; files: Files });
const transfer = given === '' ? await whole(nextDirectory) : await prepare(frames, files);
await meet();
const cpuBefore = process.cpuUsage();
const began = performance.now();
await transfer.run(TIMEOUT_MS, null);
await meet();
const received = performance.now();
await meet();
const applied = performance.now();
const { user, system } = process.cpuUsage(cpuBefore);
await transfer.close();

const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
const sent: Sent = {
  seconds: (received - began) / 1e3,
  appliedSeconds: (applied - began) / 1e3,
  cpuSeconds: (user + system) / 1e6,
  peakBytes: Number(peak) * 1024,
};
print(JSON.stringify(sent));
await communicator.destroy(TIMEOUT_MS);
