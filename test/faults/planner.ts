/** From a seed to a scenario: pure, so that a seed repeats its run. */

import type { VllmVersion } from '../../src/testing/index.js';
import type { UpdateTimeouts } from '../../src/update/types.js';
import { type FaultKind, KINDS, PAIRS, type Pair } from './catalogue.js';
import { type Random, randomOf } from './random.js';
import { type Fault, type Scenario, type Step, VERSIONS, type Version } from './scenario.js';

const TIMEOUTS: UpdateTimeouts = {
  probe: 400,
  pause: 400,
  resume: 400,
  rendezvous: 700,
  update: 700,
  checksum: 500,
  score: 400,
  discovery: 400,
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
 */
export function planScenario(seed: number, pairs: readonly Pair[] = PAIRS): Scenario {
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
  const verify = verifyOf(random, { pair, checker: vllm >= '0.32', engines });
  const clearCache = phase !== 'reset' && !random.chance(0.2);
  const others = PAIRS.filter((other) => {
    if (KINDS[other.kind].layer !== 'http') return false;
    if (other.phase === 'reset') return !clearCache;
    if (other.phase === 'verify') return verify !== 'none';
    if (other.phase === 'start' || other.phase === 'finish') return nccl && vllm > '0.21';
    return nccl || other.phase !== 'init';
  });
  return {
    seed,
    engines,
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
    steps: planSteps(random, { pair, others, engines }),
  };
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
    engines,
  }: { readonly pair: Pair; readonly others: readonly Pair[]; readonly engines: number },
): Step[] {
  const count = random.pick([1, 1, 2, 3]);
  // The group stands after the first update, so init happens only there; and what a process is started with strikes there.
  const first = pair.phase === 'init' || STARTED_WITH.includes(pair.kind);
  const struck = first ? 0 : random.between(0, count - 1);
  return Array.from({ length: count }, (_, index) => {
    const faults = index === struck ? [faultOf(random, pair, engines)] : [];
    if (index === struck && random.chance(0.15)) faults.push(faultOf(random, random.pick(others), engines));
    return { version: VERSIONS[index + 1] as Version, faults };
  });
}

function faultOf(random: Random, { kind, phase }: Pair, engines: number): Fault {
  return {
    kind,
    phase,
    engine: random.between(0, engines - 1),
    applied: random.chance(0.5),
    arrives: random.pick(['soon', 'after-next', 'after-push']),
    afterwards: random.chance(0.5),
    once: random.chance(0.5),
    chance: random.next(),
  };
}
