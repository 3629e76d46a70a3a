/** Makes a delta before anybody is paused: who can take it, what changed, and what is sent. */
import type { TensorSpec } from '../../engines/admin.js';
import { WeightcastError } from '../../errors.js';
import type { EngineLink } from '../../fleet/engine.js';
import { holdPublished } from '../../transports/filesystem/published/hold.js';
import type { WirePlan } from '../../transports/nccl/wire/frame.js';
import { requireIndexable, sparseSteps, type TensorChanges } from '../../transports/nccl/wire/sparse.js';
import { type Checkpoint, openCheckpoint } from '../../weights/checkpoint.js';
import { orderSteps } from '../../weights/order.js';
import { pairSteps } from '../../weights/pairs.js';
import { elementsOf } from '../../weights/tensor.js';
import { requireUnchanged } from '../../weights/unchanged.js';
import { runInSlices } from '../../weights/yielding.js';
import type { Attempt } from '../attempt.js';
import type { DeltaReport } from '../types.js';
import { refuseBackends, withoutSparse } from './backend.js';
import { type BaseProofs, proveBase } from './base.js';
import { diffPairs } from './diff.js';
import { tensorsWithNaN } from './not-a-number.js';
import type { DeltaBase } from './previous.js';
import type { DeltaRequest } from './request.js';
import { Spool } from './spool.js';

/** What changed, ready to be sent to the engines that hold the base. */
export interface Delta {
  readonly plan: WirePlan;
  /** What the plan's frames lie in. */
  readonly files: readonly { readonly path: string; readonly byteLength: number }[];
  readonly engines: readonly EngineLink[];
  /** Engines that take the whole version from disk instead: why. */
  readonly off: ReadonlyMap<string, string>;
  /** All tensors that may be in a delta of this model. */
  readonly tensors: readonly TensorSpec[];
  readonly report: DeltaReport;
  /** Removes the files: what is staged has them open. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * @throws WeightcastError WC_ENGINE_NOT_CONFIGURED, WC_DELTA_BASE, WC_DELTA_TOO_LARGE, WC_TENSOR_UNSENDABLE, WC_FILE_READ, WC_FILE_WRITE, and what a broken
 * base gives
 */
export async function prepareDelta(attempt: Attempt, request: DeltaRequest): Promise<Delta> {
  const { checkpoint, signal, settings, ledger } = attempt;
  const from = await request.base();
  await using held = await holdPublished(from.path, { signal, onNote: (text) => ledger.note(text) });
  const base = await openCheckpoint(from.path, { signal });
  await held?.requireAgreement(base);
  const pairs = await runInSlices(pairSteps(base, checkpoint), signal);
  requireIndexable(checkpoint.tensors);
  const proofs = await whoTakesIt(attempt, base, { ...request, from });
  const spool = await Spool.create();
  try {
    const { changes, files } = await diffPairs(pairs, {
      spool,
      files: [...base.files, ...checkpoint.files],
      limitBytes: checkpoint.byteLength,
      signal,
      onProgress: (bytes) =>
        settings.onEvent({
          kind: 'progress',
          phase: 'preflight',
          bytes,
          totalBytes: checkpoint.byteLength,
        }),
    });
    await Promise.all([requireUnchanged(base.files), requireUnchanged(checkpoint.files)]);
    refuseNaN(await tensorsWithNaN(changes, signal));
    const changesOf = new Map(changes.map((change) => [change.tensor.name, change]));
    const order = await runInSlices(orderSteps(checkpoint.tensors), signal);
    const ordered = order.flatMap(({ name }) => changesOf.get(name) ?? []);
    const plan = await runInSlices(sparseSteps(ordered, order), signal);
    return {
      plan,
      files,
      engines: proofs.on,
      off: proofs.off,
      tensors: order.map(({ name, dtype, shape }) => ({
        name,
        dtypeName: dtype.torchName ?? dtype.name,
        shape,
      })),
      report: {
        base: base.path ?? from.path,
        tensors: changes.filter(({ updates }) => updates > 0).length,
        elements: changes.reduce((sum, { updates }) => sum + updates, 0),
        ofElements: checkpoint.tensors.reduce((sum, { shape }) => sum + elementsOf(shape), 0),
        bytes: plan.byteLength,
        denseBytes: checkpoint.byteLength,
      },
      close: () => spool.close(),
    };
  } catch (error) {
    await spool.close();
    throw error;
  }
}

async function whoTakesIt(
  attempt: Attempt,
  base: Checkpoint,
  request: DeltaRequest & { readonly from: DeltaBase },
): Promise<BaseProofs> {
  const { engines, settings, checkpoint } = attempt;
  const unable = await refuseBackends(attempt);
  const able = engines.filter(({ id }) => !unable.has(id));
  const loads = settings.fallback === 'filesystem' && checkpoint.path !== null;
  const [firstUnable] = engines.filter(({ id }) => unable.has(id));
  if (firstUnable !== undefined && (able.length === 0 || !loads))
    throw withoutSparse(firstUnable, unable.get(firstUnable.id) ?? '');
  const proofs = await proveBase(
    { ...attempt, engines: able },
    {
      remembered: await request.held.holding(request.from.path),
      baseVersion: request.from.version,
      book: request.bookOf(base),
    },
  );
  const off = new Map([...unable, ...proofs.off]);
  const stuck = engines.find(({ id, admin }) => off.has(id) && (!loads || !admin.capabilities.diskLoad));
  if (stuck !== undefined || proofs.on.length === 0) throw notTheBase(off, stuck);
  return { on: proofs.on, off };
}

const SHOWN = 8;

function notTheBase(off: ReadonlyMap<string, string>, stuck: EngineLink | undefined): WeightcastError {
  const shown = [...off].slice(0, SHOWN).map(([id, why]) => `${id} (${why})`);
  const more = off.size > SHOWN ? ` and ${off.size - SHOWN} more` : '';
  return new WeightcastError(
    'WC_DELTA_BASE',
    `not known to hold the version that the delta starts from: ${shown.join(', ')}${more}`,
    {
      engine: stuck?.id ?? [...off.keys()][0],
      phase: 'preflight',
      remedy:
        'Pass --fallback filesystem: such an engine then loads the new version from disk. Or push whole weights, without --delta-from.',
    },
  );
}

function refuseNaN(found: readonly TensorChanges[]): void {
  if (found.length === 0) return;
  const names = found.slice(0, SHOWN).map(({ tensor }) => tensor.name);
  const more = found.length > SHOWN ? ` and ${found.length - SHOWN} more` : '';
  throw new WeightcastError(
    'WC_TENSOR_UNSENDABLE',
    `the sparse wire format cannot carry new values that are NaN: ${names.join(', ')}${more}`,
    {
      phase: 'preflight',
      remedy: 'The receiver takes NaN for "unchanged": use --transport filesystem, and look at the training.',
    },
  );
}
