/** The filesystem transport: every engine loads the directory itself. */
import { asWeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import type { CheckpointFile } from '../weights/checkpoint.js';
import { requireUnchanged } from '../weights/unchanged.js';
import type { Attempt, Carrier } from './attempt.js';
import { withoutDiskLoad } from './lacking.js';
import { settled } from './late-answers.js';
import { tagFor } from './tag.js';
import type { TransferReport } from './types.js';

/** @param directory path that every worker can see */
export function filesystemCarrier(directory: string): Carrier {
  return {
    name: 'filesystem',
    async transfer(attempt) {
      const began = performance.now();
      attempt.signal.throwIfAborted();
      const { files } = attempt.checkpoint;
      await requireUnchanged(files);
      await loadFromDisk(attempt, attempt.engines, { directory, files });
      return filesReport(attempt, performance.now() - began);
    },
    close: async () => undefined,
  };
}

/** What engines load: a directory, and the files of it as they were checked. */
export interface DiskVersion {
  readonly directory: string;
  readonly files: readonly CheckpointFile[];
}

/**
 * Loads a directory on these paused engines: 'received', or quarantined, as all are when somebody wrote to the files meanwhile. A load may be retried, so it
 * also heals.
 */
export async function loadFromDisk(
  attempt: Attempt,
  engines: readonly EngineLink[],
  { directory, files }: DiskVersion,
): Promise<void> {
  const { ledger, settings, journal } = attempt;
  await journal.ask(
    'load',
    engines.map(({ id }) => id),
    directory,
  );
  const { done, failed } = await onAll(engines, async (engine) => {
    ledger.set(engine.id, 'receiving', `loads ${directory}`);
    const tag = tagFor(attempt, engine);
    const load = engine.admin.reloadFromDisk(directory, { weightVersion: tag });
    if (load === null) throw withoutDiskLoad(engine, 'transfer');
    await settled(attempt, engine, settings.timeouts.update, (timeoutMs) => engine.call(load, { timeoutMs }));
    const setVersion = tag === null ? null : engine.admin.setWeightVersion(tag);
    if (setVersion !== null) await engine.call(setVersion, { timeoutMs: settings.timeouts.pause });
  });
  const changed: unknown = await requireUnchanged(files, { mayBeGone: true }).catch(
    (error: unknown) => error,
  );
  for (const id of done.keys()) {
    if (changed === undefined) ledger.received(id, 'filesystem');
    else
      ledger.quarantine(
        id,
        asWeightcastError(changed, 'WC_CHECKPOINT_CHANGED', { engine: id, phase: 'transfer' }),
      );
  }
  for (const [id, error] of failed) {
    ledger.quarantine(id, asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: id, phase: 'transfer' }));
  }
}

function filesReport(attempt: Attempt, elapsedMs: number): TransferReport {
  const bytes = attempt.checkpoint.byteLength;
  return {
    transport: 'filesystem',
    bytes,
    frames: 0,
    elapsedMs,
    bytesPerSecond: bytes / (elapsedMs / 1000),
    readMs: 0,
    copyMs: 0,
    broadcastMs: 0,
  };
}
