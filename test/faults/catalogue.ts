/** Which faults there are, and in which phases each can strike. */

export const PHASES = [
  'preflight',
  'init',
  'pause',
  'start',
  'receive',
  'finish',
  'verify',
  'reset',
  'resume',
] as const;
export type FaultPhase = (typeof PHASES)[number];

export type Layer = 'http' | 'nccl' | 'disk' | 'process' | 'source';

interface Kind {
  readonly layer: Layer;
  readonly phases: readonly FaultPhase[];
  /** Why it can't strike in the others. */
  readonly why?: string;
}

const everywhere = (layer: Layer): Kind => ({ layer, phases: PHASES });
const nccl = (phases: readonly FaultPhase[], why = 'no NCCL call is made in the other phases'): Kind => ({
  layer: 'nccl',
  phases,
  why,
});

export const KINDS = {
  /** Nobody listens: connections are refused. */
  refused: everywhere('http'),
  /** The connection is reset; the engine never sees the request. */
  reset: everywhere('http'),
  /** The engine does it, and the connection is reset before the answer. */
  lost: everywhere('http'),
  /** The answer takes most of the deadline. */
  slow: everywhere('http'),
  'error-500': everywhere('http'),
  'error-503': everywhere('http'),
  /** 200, with an error in the body. */
  'ok-error': everywhere('http'),
  malformed: everywhere('http'),
  /** An answer without end, as fast as it is read. */
  huge: everywhere('http'),
  /** An answer without end, a byte at a time. */
  drip: everywhere('http'),
  /** Nobody answers; the engine never sees the request. */
  silent: everywhere('http'),
  /** The engine does it; nobody answers. */
  mute: everywhere('http'),
  /** Nobody answers, and the engine gets the request after the client has given up. */
  late: everywhere('http'),

  'missing-peer': nccl(['init', 'receive']),
  'late-peer': nccl(['init', 'receive']),
  'slow-peer': nccl(['receive'], 'only broadcasts have a rate'),
  'peer-raises': nccl(['init', 'receive']),
  'peer-dies-before': nccl(['init', 'receive']),
  'peer-dies-in': nccl(['receive'], 'in a broadcast'),
  'peer-dies-after': nccl(['receive'], 'after the last broadcast'),
  'dead-root': nccl(['receive'], 'rank 0 dies in a broadcast; before and after it is coordinator-killed'),
  'version-mismatch': nccl(['init'], 'versions are compared in init'),
  'out-of-memory': nccl(['init'], 'rank 0 takes its staging memory before the pause'),
  'async-error': nccl(['receive'], 'the emulator raises it after a broadcast'),
  'group-depth-leak': nccl(['init'], 'a failed init leaks it'),
  'no-driver': nccl(['init'], 'rank 0 opens its device before the group'),
  'no-device': nccl(['init'], 'rank 0 opens its device before the group'),
  /** The engine expects other chunks than are sent. */
  'byte-mismatch': nccl(['receive'], 'only broadcasts have a size'),
  /** One bit of what the engine holds flips. */
  corruption: nccl(['receive'], 'only a receive changes what an engine holds'),

  missing: everywhere('disk'),
  truncated: everywhere('disk'),
  /** Other bytes of the same size. */
  changed: {
    layer: 'disk',
    phases: PHASES.filter((phase) => phase !== 'preflight'),
    why: 'before it is opened it is another whole checkpoint',
  },

  'coordinator-killed': everywhere('process'),
  'engine-killed': everywhere('process'),
  'engine-restarted': everywhere('process'),
  /** SIGINT: the update is told to stop. */
  interrupted: everywhere('process'),
  /** The name, or the frontend, that finds the engines leaves one out from then on, and in the first moments of the next push. */
  unlisted: everywhere('source'),
  /** It finds nobody, by an error or by an empty answer; as long. */
  'source-fails': everywhere('source'),
  /** Somebody else begins a push to the same engines. */
  'two-coordinators': {
    layer: 'process',
    phases: PHASES.filter((phase) => phase !== 'preflight'),
    why: 'before it the engines are nobody’s yet',
  },
} as const satisfies Record<string, Kind>;

export type FaultKind = keyof typeof KINDS;
export const KIND_NAMES = Object.keys(KINDS) as readonly FaultKind[];

export interface Pair {
  readonly kind: FaultKind;
  readonly phase: FaultPhase;
}

/** Every kind in every phase in which it can strike. */
export const PAIRS: readonly Pair[] = KIND_NAMES.flatMap((kind) =>
  KINDS[kind].phases.map((phase) => ({ kind, phase })),
);

/** Those of one coordinator and engines that are listed: others than weightcast know of nothing else. */
export const LONE_PAIRS: readonly Pair[] = PAIRS.filter(
  ({ kind }) => kind !== 'two-coordinators' && KINDS[kind].layer !== 'source',
);

export const pairName = ({ kind, phase }: Pair): string => `${kind}/${phase}`;
