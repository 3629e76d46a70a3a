/** Faults that a process is started with, or is told of, before a push. */
import type { ReferenceFaults } from '../../src/testing/index.js';
import type { Fault, Scenario } from './scenario.js';

type Environment = Readonly<Record<string, string>>;

/** Whatever else goes wrong, a communicator that was ended must not be used again: the real library crashes of it, and so does the emulated one here. */
const REUSE = 'crash-on-reuse';

const switches = (faults: string): Environment => ({ WEIGHTCAST_EMULATOR_FAULTS: `${REUSE},${faults}` });

/** For this process and those that it starts. To be called before the first of them opens the libraries. */
export function expectNoReuse(): void {
  process.env.WEIGHTCAST_EMULATOR_FAULTS ??= REUSE;
}

/** The emulator's switches of one engine's workers. Counts are of the whole life of a process, so they strike in the first push. */
export function engineEnvironment({ steps }: Scenario, engine: number): Environment {
  const faults = steps.flatMap(({ faults }) => faults).filter((fault) => fault.engine === engine);
  return Object.assign({}, ...faults.map(environmentOf));
}

function environmentOf(fault: Fault): Environment {
  const nth = 1 + Math.floor(fault.chance * 6);
  switch (fault.kind) {
    case 'version-mismatch':
      return { WEIGHTCAST_EMULATOR_NCCL_VERSION: '22809' };
    case 'async-error':
      return switches(`async-error=${nth}`);
    case 'peer-dies-in':
      return switches(`die-in-broadcast=${nth}`);
    case 'slow-peer':
      return switches(`slow=${fault.chance < 0.5 ? 200_000 : 2_000_000}`);
    case 'missing-peer':
      // Half of them never come to the store, half of them come and never enter NCCL.
      return fault.phase === 'init' && fault.applied ? switches('missing-peer') : {};
    default:
      return {};
  }
}

/** The emulator's switches of rank 0's own process. */
export function coordinatorEnvironment({ steps }: Scenario): Environment {
  const faults = steps.flatMap(({ faults }) => faults);
  return Object.assign({}, ...faults.map(ownOf));
}

/** Faults of rank 0's own libraries, before it meets an engine. */
export function strikesRankZero({ kind }: Fault): boolean {
  return ['no-driver', 'no-device', 'out-of-memory', 'group-depth-leak'].includes(kind);
}

function ownOf(fault: Fault): Environment {
  const nth = 1 + Math.floor(fault.chance * 6);
  switch (fault.kind) {
    case 'dead-root':
      return switches(`${fault.applied ? 'die-in-broadcast' : 'die-before-broadcast'}=${nth}`);
    case 'no-driver':
    case 'no-device':
      return switches(fault.kind);
    case 'group-depth-leak':
      // The leak is that of an init which fails before it has met anybody.
      return switches('driver-too-old,group-depth-leak');
    case 'out-of-memory':
      return switches('out-of-memory=1000');
    default:
      return {};
  }
}

/** What one engine is told before a push. */
export function engineFaults(faults: readonly Fault[], engine: number): ReferenceFaults {
  return Object.assign({}, ...faults.filter((fault) => fault.engine === engine).map(toldOf));
}

const PARAMETERS = ['model.norm.weight', 'model.layers.1.self_attn.qkv_proj.weight', 'lm_head.weight'];

function toldOf(fault: Fault): ReferenceFaults {
  const afterBroadcasts = Math.floor(fault.chance * 4);
  const init = fault.phase === 'init';
  switch (fault.kind) {
    case 'missing-peer':
      if (!init) return { receive: { afterBroadcasts, action: 'stall', worker: 0 } };
      return fault.applied ? {} : { join: { action: 'stall' } };
    case 'late-peer':
      return init
        ? { join: { action: 'delay', delayMs: Math.floor(900 * fault.chance) } }
        : { broadcastDelayMs: Math.floor(120 * fault.chance) };
    case 'peer-raises':
      return init
        ? { join: { action: 'raise' } }
        : { receive: { afterBroadcasts, action: 'raise', worker: 0 } };
    case 'peer-dies-before':
      return init
        ? { join: { action: 'exit' } }
        : { receive: { afterBroadcasts, action: 'exit', worker: 0 } };
    case 'peer-dies-after':
      return { receive: { afterBroadcasts: Number.POSITIVE_INFINITY, action: 'exit', worker: 0 } };
    case 'corruption':
      return { corruptParameter: PARAMETERS[Math.floor(fault.chance * PARAMETERS.length)] as string };
    default:
      return {};
  }
}
