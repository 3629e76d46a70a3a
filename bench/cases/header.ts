/** A safetensors header of 100,000 tensors: read, checked and made into tensors, beside JSON.parse, which checks nothing. */
import { open, readFile, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { readSafetensorsHeader } from '#weightcast/weights/safetensors.js';
import type { BenchCase, Figure } from '../case.js';
import { interleave, median, spread } from '../harness/statistics.js';

const GOAL_MS = 150;
const MAX_GROWTH_MIB = 16;
const MIB = 2 ** 20;

interface Run {
  readonly elapsedMs: number;
  /** The longest that the main thread kept the event loop. */
  readonly lagMs: number;
}

export const header: BenchCase = {
  name: 'header',
  about:
    'The header of a safetensors file of 100,000 tensors (13 MB): from the call to the list of tensors. The peer reads the same bytes and calls JSON.parse, on the main thread, and checks nothing.',
  async run({ quick, scratch }) {
    const path = join(scratch, `header-${process.pid}.safetensors`);
    const tensors = quick ? 10_000 : 100_000;
    try {
      await write(path, tensors);
      // A process reads one checkpoint after another: the first one meets cold code.
      const [first] = [await ours(path)];
      const runs = await interleave({ ours: () => ours(path), json: () => jsonParse(path) }, quick ? 3 : 9);
      return [...figures(tensors, { first, ...runs }), await growth(path, quick ? 6 : 30)];
    } finally {
      await rm(path, { force: true });
    }
  },
};

async function ours(path: string): Promise<Run> {
  return timed(async () => {
    await readSafetensorsHeader(path);
  });
}

async function jsonParse(path: string): Promise<Run> {
  return timed(async () => {
    const file = await open(path, 'r');
    try {
      const prefix = Buffer.alloc(8);
      await file.read(prefix, 0, 8, 0);
      const bytes = Buffer.alloc(Number(prefix.readBigUInt64LE()));
      await file.read(bytes, 0, bytes.length, 8);
      JSON.parse(bytes.toString('utf8'));
    } finally {
      await file.close();
    }
  });
}

async function timed(work: () => Promise<void>): Promise<Run> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const began = performance.now();
  await work();
  const elapsedMs = performance.now() - began;
  // The last stretch counts once the loop has turned.
  await new Promise((resolve) => setTimeout(resolve, 5));
  delay.disable();
  return { elapsedMs, lagMs: delay.max / 1e6 };
}

function figures(
  tensors: number,
  {
    first,
    ours,
    json,
  }: { readonly first: Run; readonly ours: readonly Run[]; readonly json: readonly Run[] },
): Figure[] {
  const elapsed = ours.map(({ elapsedMs }) => elapsedMs);
  const peer = { name: 'JSON.parse', value: median(json.map(({ elapsedMs }) => elapsedMs)) };
  const goal = (ms: number) => ({ text: `≤ ${GOAL_MS} ms`, met: ms <= GOAL_MS });
  const lag = median(ours.map(({ lagMs }) => lagMs));
  return [
    {
      name: `${tensors} tensors`,
      unit: 'ms',
      ours: median(elapsed),
      spread: spread(elapsed),
      peer,
      goal: goal(median(elapsed)),
    },
    {
      name: 'the same, first of the process',
      unit: 'ms',
      ours: first.elapsedMs,
      peer,
      goal: goal(first.elapsedMs),
      note: 'One measurement.',
    },
    {
      name: 'longest turn of the event loop meanwhile',
      unit: 'ms',
      ours: lag,
      peer: { name: 'JSON.parse', value: median(json.map(({ lagMs }) => lagMs)) },
      goal: { text: 'off the main thread: ≤ 20 ms', met: lag <= 20 },
      note: 'The tensors are made into objects on the main thread, in slices of 4 ms; a garbage collection may fall into one.',
    },
  ];
}

/** What stays of one reading after another. What is only waiting to be collected comes and goes by tens of MiB. */
async function growth(path: string, times: number): Promise<Figure> {
  const collect = garbageCollection();
  const resident: number[] = [];
  for (let i = 0; i < 5 + times; i += 1) {
    await readSafetensorsHeader(path);
    collect();
    if (i >= 5) resident.push(await residentBytes());
  }
  const third = Math.ceil(times / 3);
  const before = median(resident.slice(0, third));
  const mebibytes = (median(resident.slice(-third)) - before) / MIB;
  return {
    name: `growth of resident memory over ${times} readings, each followed by a garbage collection`,
    unit: 'MiB',
    ours: mebibytes,
    limit: { name: 'resident in the first third', value: before / MIB },
    goal: { text: `flat: ≤ ${MAX_GROWTH_MIB} MiB`, met: mebibytes <= MAX_GROWTH_MIB },
    note: 'Medians of the last and of the first third.',
  };
}

/** Without a flag on the command line of the whole bench. */
function garbageCollection(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

async function residentBytes(): Promise<number> {
  const status = await readFile('/proc/self/status', 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}

/** The names of a mixture of experts; the tensors' bytes are a hole in the file. */
async function write(path: string, count: number): Promise<void> {
  const entries: string[] = [];
  let offset = 0;
  for (let i = 0; i < count; i += 1) {
    const part = ['gate_proj', 'up_proj', 'down_proj'][i % 3];
    const name = `model.layers.${Math.floor(i / 384)}.mlp.experts.${Math.floor(i / 3) % 128}.${part}.weight`;
    const shape = part === 'down_proj' ? '4096,1536' : '1536,4096';
    const end = offset + 2 * 4096 * 1536;
    entries.push(`"${name}":{"dtype":"BF16","shape":[${shape}],"data_offsets":[${offset},${end}]}`);
    offset = end;
  }
  const json = Buffer.from(`{"__metadata__":{"format":"pt"},${entries.join(',')}}`);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  const file = await open(path, 'w');
  try {
    await file.writev([prefix, json]);
  } finally {
    await file.close();
  }
  await truncate(path, 8 + json.length + offset);
}
