/** Errors of engines that can't do what an update asks for, with what a user does about it. */
import type { EngineAdmin } from '../engines/admin.js';
import { WeightcastError } from '../errors.js';
import type { EngineLink } from '../fleet/engine.js';

/** 'vllm 0.32.0' */
export function nameOf({ backend, version }: EngineAdmin): string {
  return `${backend} ${version}`;
}

/** Its workers can't be reached by NCCL. */
export function withoutNccl({ id, admin }: EngineLink): WeightcastError {
  return new WeightcastError('WC_ENGINE_NOT_CONFIGURED', `${nameOf(admin)} receives no weights by NCCL`, {
    engine: id,
    phase: 'preflight',
    remedy: admin.remedies?.nccl ?? 'Use --transport filesystem.',
  });
}

/** Nothing in it loads a directory. */
export function withoutDiskLoad({ id, admin }: EngineLink, phase = 'preflight'): WeightcastError {
  return new WeightcastError(
    'WC_ENGINE_NOT_CONFIGURED',
    `${nameOf(admin)} loads no weights from a directory`,
    { engine: id, phase, remedy: admin.remedies?.disk ?? 'Update it by --transport nccl.' },
  );
}

/** It reports no digests of its parameters. */
export function withoutChecker({ id, admin }: EngineLink): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', `${nameOf(admin)} has no weight checker`, {
    engine: id,
    remedy: admin.remedies?.digest ?? 'Use --verify auto: a digest where the engine can, else a fingerprint.',
  });
}
