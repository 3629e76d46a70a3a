/** Every case, by name; a module is loaded only in the process that runs it. */
import type { BenchCase } from '../case.js';

export const cases: Readonly<Record<string, () => Promise<BenchCase>>> = {
  'gpu-broadcast': async () => (await import('../gpu/cases/broadcast.js')).broadcast,
  'gpu-gather': async () => (await import('../gpu/cases/gather.js')).gather,
  'gpu-ipc': async () => (await import('../gpu/cases/ipc.js')).ipc,
  'gpu-pipeline': async () => (await import('../gpu/cases/pipeline.js')).pipeline,
  'gpu-recovery': async () => (await import('../gpu/cases/recovery.js')).recovery,
  transfer: async () => (await import('./transfer.js')).transfer,
  header: async () => (await import('./header.js')).header,
  plan: async () => (await import('./plan.js')).plan,
  publish: async () => (await import('./publish.js')).publishing,
  'control-plane': async () => (await import('./control-plane.js')).controlPlane,
  pause: async () => (await import('./pause.js')).pause,
  rendezvous: async () => (await import('./rendezvous.js')).rendezvous,
  delta: async () => (await import('./delta.js')).delta,
  'delta-nccl': async () => (await import('./delta-nccl.js')).deltaNccl,
  'digest-pause': async () => (await import('./digest-pause.js')).digestPause,
  sha256: async () => (await import('./sha256.js')).sha256,
};
