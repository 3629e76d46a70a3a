/** From a seed to a scenario: pure, so that a seed repeats its run. */

import type { VllmVersion } from '../../src/testing/index.js';
import type { UpdateTimeouts } from '../../src/update/types.js';
import { type FaultKind, KINDS, PAIRS, type Pair } from './catalogue.js';
import { canStrike, isThreeStep } from './dialect.js';
import { type Random, randomOf } from './random.js';
import {
  type Backend,
  type Fault,
  FLEETS,
  type Fleet,
  type Scenario,
  type Step,
  VERSIONS,
  type Version,
} from './scenario.js';

const TIMEOUTS: UpdateTimeouts = {
  probe: 400,
  pause: 400,
  resume: 400,
  rendezvous: 700,
  update: 700,
  checksum: 500,
  score: 400,
  // Two looks, a moment apart; only fleets that are found wait for it.
  discovery: 3_000,
};

/** Versions with three steps and with one, with a checker and without, with a store and with an inline id. */
const VERSIONS_OF_VLLM: readonly VllmVersion[] = ['0.33.0', '0.30.0', '0.28.0', '0.24.0', '0.18.1', '0.16.0'];

/** Faults that a process is started with, and that count from there. */
const STARTED_WITH: readonly FaultKind[] = ['dead-root', 'async-error', 'peer-dies-in'];

/**
 * The scenario of a seed. Pairs of kind and phase are dealt in turn by the seed, so that n · PAIRS.length seeds in a row strike each pair n times; a second
 * fault, which any pair may be, is drawn.
 *
 * @param pairs those that the first fault is dealt from; all by default
 * @param fleets those that the fleet is drawn from; all by default
 */
export function planScenario(
  seed: number,
  pairs: readonly Pair[] = PAIRS,
  fleets: readonly Fleet[] = FLEETS,
): Scenario {
  const random = randomOf(seed);
  const pair = pairs[(seed - 1) % pairs.length] as Pair;
  const { kind, phase } = pair;
  const nccl =
    KINDS[kind].layer === 'nccl' || phase === 'init' || phase === 'start' || phase === 'finish'
      ? true
      : !random.chance(0.25);
  const threeStep = phase === 'start' || phase === 'finish';
  const checker = phase === 'verify' || kind === 'corruption';
  const vllm = random.chance(0.6) ? '0.32.0' : random.pick(VERSIONS_OF_VLLM.filter(fits));
  function fits(version: VllmVersion): boolean {
    if (checker && version < '0.32') return false;
    return !threeStep || version > '0.21';
  }
  const engines = random.pick([1, 2, 2, 2, 3, 4]);
  const backends = backendsOf(seed, { pair, fleets, engines });
  const found = KINDS[kind].layer !== 'source' ? null : backends[0] === 'dynamo' ? 'listener' : 'dns';
  const stock = backends.every((backend) => backend === 'vllm');
  const verify = verifyOf(random, { pair, checker: stock && vllm >= '0.32', engines });
  const clearCache = phase !== 'reset' && !random.chance(0.2);
  const others = PAIRS.filter((other) => {
    if (KINDS[other.kind].layer !== 'http') return false;
    if (!backends.some((backend) => canStrike(other, backend))) return false;
    if (other.phase === 'reset') return !clearCache;
    if (other.phase === 'verify') return verify !== 'none';
    if (other.phase === 'start' || other.phase === 'finish') {
      return nccl && backends.some((backend) => isThreeStep(backend, { vllm }) && canStrike(other, backend));
    }
    return nccl || other.phase !== 'init';
  });
  return {
    seed,
    engines,
    backends,
    found,
    workers: random.chance(0.3) ? 2 : 1,
    vllm,
    layers: random.chance(phase === 'receive' ? 0.4 : 0.1) ? 60 : 2,
    transport: nccl ? 'nccl' : 'filesystem',
    fallback: random.chance(0.4) ? 'filesystem' : 'none',
    recover: random.chance(0.25),
    verify,
    pauseMode: random.pick(['keep', 'keep', 'wait', 'abort']),
    clearCache,
    packed: kind === 'byte-mismatch' || random.chance(0.85),
    timeouts: TIMEOUTS,
    steps: planSteps(random, { pair, others, backends, vllm }),
  };
}

/** Drawn by numbers of its own, so that a fleet of stock vLLM is planned as if there were no other. */
function backendsOf(
  seed: number,
  {
    pair,
    fleets,
    engines,
  }: { readonly pair: Pair; readonly fleets: readonly Fleet[]; readonly engines: number },
): readonly Backend[] {
  const random = randomOf(seed ^ 0x5eed);
  const kinds = (['vllm', 'prime-rl', 'dynamo'] as const).filter((backend) => canStrike(pair, backend));
  // Wrong bytes are found by a checker, which not every engine of a mixed fleet has.
  // A name finds engines of one kind.
  const mixes = engines > 1 && pair.kind !== 'corruption' && KINDS[pair.kind].layer !== 'source';
  const possible = fleets.filter((fleet) => (fleet === 'mixed' ? mixes : kinds.includes(fleet)));
  // Half of them stock, where all four can be.
  const dealt = possible.includes('vllm') ? [...possible, 'vllm' as const, 'vllm' as const] : possible;
  const fleet = dealt.length === 0 ? (kinds[0] ?? 'vllm') : random.pick(dealt);
  if (fleet !== 'mixed') return Array.from({ length: engines }, () => fleet);
  const others = (['vllm', 'prime-rl', 'dynamo'] as const).filter((backend) => backend !== kinds[0]);
  // One that the fault can strike, one of another kind, and then any.
  const first = [kinds[0] ?? 'vllm', random.pick(others)];
  const rest = Array.from({ length: engines - 2 }, () =>
    random.pick(['vllm', 'prime-rl', 'dynamo'] as const),
  );
  return random.chance(0.5) ? [...first, ...rest] : [...rest, ...first];
}

function verifyOf(
  random: Random,
  { pair, checker, engines }: { readonly pair: Pair; readonly checker: boolean; readonly engines: number },
): Scenario['verify'] {
  // What nothing proves can't be found: such a fault is only fair where something does.
  if (pair.kind === 'corruption') return 'digest';
  if (pair.phase === 'verify')
    return checker && (engines === 1 || random.chance(0.6)) ? 'digest' : 'fingerprint';
  return random.pick(checker ? ['digest', 'auto', 'fingerprint', 'none'] : ['auto', 'fingerprint', 'none']);
}

function planSteps(
  random: Random,
  {
    pair,
    others,
    backends,
    vllm,
  }: {
    readonly pair: Pair;
    readonly others: readonly Pair[];
    readonly backends: readonly Backend[];
    readonly vllm: VllmVersion;
  },
): Step[] {
  const count = random.pick([1, 1, 2, 3]);
  // The group stands after the first update, so init happens only there; and what a process is started with strikes there.
  const first = pair.phase === 'init' || STARTED_WITH.includes(pair.kind);
  const struck = first ? 0 : random.between(0, count - 1);
  return Array.from({ length: count }, (_, index) => {
    const faults = index === struck ? [faultOf(random, pair, { backends, vllm })] : [];
    if (index === struck && random.chance(0.15))
      faults.push(faultOf(random, random.pick(others), { backends, vllm }));
    return { version: VERSIONS[index + 1] as Version, faults };
  });
}

function faultOf(
  random: Random,
  { kind, phase }: Pair,
  { backends, vllm }: { readonly backends: readonly Backend[]; readonly vllm: VllmVersion },
): Fault {
  const drawn = random.between(0, backends.length - 1);
  const threeStep = phase === 'start' || phase === 'finish';
  const fitting = [...backends.keys()].filter((index) => {
    const backend = backends[index] as Backend;
    return canStrike({ kind, phase }, backend) && (!threeStep || isThreeStep(backend, { vllm }));
  });
  return {
    kind,
    phase,
    engine: fitting.includes(drawn) ? drawn : (fitting[drawn % fitting.length] ?? drawn),
    applied: random.chance(0.5),
    arrives: random.pick(['soon', 'after-next', 'after-push']),
    afterwards: random.chance(0.5),
    once: random.chance(0.5),
    chance: random.next(),
  };
}
