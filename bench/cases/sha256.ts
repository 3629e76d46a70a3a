/** Digests of a checkpoint's tensors through the product's own job, on one core and on all, against `openssl speed`. */
import { availableParallelism } from 'node:os';
import { native } from '#weightcast/native.js';
import type { Checkpoint } from '#weightcast/weights/checkpoint.js';
import { candidatesFor, toHashJob } from '#weightcast/weights/proof.js';
import type { BenchCase, Figure } from '../case.js';
import { checkpointOf } from '../harness/checkpoint.js';
import { opensslSha256 } from '../harness/openssl.js';
import { interleave, median, spread } from '../harness/statistics.js';

const GOAL = 0.9;

interface Rate {
  /** Bytes a second of wall time, and of CPU time of all threads. */
  readonly elapsed: number;
  readonly cpu: number;
}

/** Every form in which an engine may report these tensors: the job that a push runs. */
async function digestRate(checkpoint: Checkpoint, threads: number): Promise<Rate> {
  const { job, totalBytes } = toHashJob(candidatesFor(checkpoint.tensors, 1), threads);
  const began = performance.now();
  const before = process.cpuUsage();
  await native().sha256(job, null).result;
  const { user, system } = process.cpuUsage(before);
  return {
    elapsed: totalBytes / ((performance.now() - began) / 1e3),
    cpu: totalBytes / ((user + system) / 1e6),
  };
}

export const sha256: BenchCase = {
  name: 'sha256',
  about:
    'SHA-256 of the tensors of a checkpoint (in the page cache) by the addon, against `openssl speed -evp sha256 -bytes 16384` in the same run.',
  async run(context) {
    const { quick, signal } = context;
    const checkpoint = await checkpointOf(context, 1);
    await digestRate(checkpoint, 0); // into the page cache
    const cores = availableParallelism();
    const seconds = quick ? 1 : 2;
    const rates = await interleave(
      {
        one: () => digestRate(checkpoint, 1),
        opensslOne: () => opensslSha256({ processes: 1, seconds, signal }),
        all: () => digestRate(checkpoint, cores),
        opensslAll: () => opensslSha256({ processes: cores, seconds, signal }),
      },
      quick ? 1 : 5,
    );
    const figure = (name: string, ours: readonly number[], limit: Figure['limit'] & object): Figure => ({
      name,
      unit: 'GB/s',
      ours: median(ours),
      spread: spread(ours),
      limit,
      goal: { text: `≥ ${GOAL * 100} % of openssl`, met: median(ours) >= GOAL * limit.value },
    });
    return [
      figure(
        'one core, by CPU time (reading included)',
        rates.one.map(({ cpu }) => cpu / 1e9),
        { name: 'openssl speed, by CPU time', value: median(rates.opensslOne) / 1e9 },
      ),
      figure(
        `each of ${cores} cores at once, by the clock`,
        rates.all.map(({ elapsed }) => elapsed / cores / 1e9),
        { name: `openssl speed -multi ${cores}`, value: median(rates.opensslAll) / cores / 1e9 },
      ),
    ];
  },
};
