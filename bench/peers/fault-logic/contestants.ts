/** Who is put under the same faults, and how each is set up. */
import { setTimeout as sleep } from 'node:timers/promises';
import { findingOf } from '../../../src/update/claim/found.js';
import { lookAtRecords } from '../../../src/update/claim/records.js';
import { statePlace } from '../../../src/update/claim/state-directory.js';
import type { UpdateTimeouts } from '../../../src/update/types.js';
import { type FaultPhase, LONE_PAIRS } from '../../../test/faults/catalogue.js';
import {
  type Coordinator,
  CoordinatorKilled,
  type CoordinatorSetup,
  type Outcome,
} from '../../../test/faults/coordinator.js';
import { forkedWeightcast } from '../../../test/faults/forked.js';
import { planScenario } from '../../../test/faults/planner.js';
import { needsProcess, type Scenario } from '../../../test/faults/scenario.js';
import { weightcast } from '../../../test/faults/weightcast.js';
import { type PeerName, peerInProcess } from './coordinator.js';
import { peerForked } from './forked.js';
import { Clock, type Pace } from './peer.js';

export interface Contestant {
  readonly name: string;
  /** What it is, in the table. */
  readonly title: string;
  scenario(seed: number): Scenario;
  factory(scenario: Scenario, setup: CoordinatorSetup): Coordinator;
}

/** A guardian gets so long to put right what a killed push left: its own deadlines, on a busy machine. */
const GUARDIAN_MS = 30_000;
const GUARDIAN_LOOK_MS = 200;
/** Until it has taken over, the records say that nobody is at work; most have finished by then. */
const TAKES_OVER_MS = 5_000;

/** So that nothing of a recovery is late, however busy the machine. The peers get three times their time. */
const RECOVERY_TIMEOUTS: UpdateTimeouts = {
  probe: 10_000,
  pause: 10_000,
  resume: 10_000,
  rendezvous: 10_000,
  update: 10_000,
  checksum: 10_000,
  score: 10_000,
  discovery: 10_000,
};

/** Every deadline of ours has the length of the one that vLLM's example and client give to the same call: 60 s, 300 s. */
function timeouts(pace: Pace): UpdateTimeouts {
  const clock = new Clock(pace);
  const [short, long] = [clock.timeout(60), clock.timeout(300)];
  return {
    probe: short,
    pause: short,
    resume: short,
    rendezvous: long,
    update: long,
    checksum: long,
    score: short,
    discovery: short,
  };
}

/** The push of the seed's scenario that is disturbed, and no other; one transport, one packing, one version of the engines. */
function disturbedPush(seed: number, pace: Pace): Scenario {
  const planned = planScenario(seed, LONE_PAIRS, ['vllm']);
  const faults = planned.steps.flatMap((step) => step.faults);
  return {
    ...planned,
    vllm: '0.32.0',
    transport: 'nccl',
    fallback: 'none',
    recover: false,
    // 'auto' proves the first update so.
    verify: 'digest',
    pauseMode: 'keep',
    packed: true,
    timeouts: timeouts(pace),
    steps: [{ version: 'b', faults }],
  };
}

/** Faults of calls that a peer does not make do not exist for it. */
function without(phases: readonly FaultPhase[], scenario: Scenario): Scenario {
  const steps = scenario.steps.map(({ version, faults }) => ({
    version,
    faults: faults.filter(({ phase }) => !phases.includes(phase)),
  }));
  return { ...scenario, steps };
}

function ours(name: string, title: string, fallback: Scenario['fallback'], pace: Pace): Contestant {
  return {
    name,
    title,
    scenario: (seed) => ({ ...disturbedPush(seed, pace), fallback }),
    factory: (scenario, setup) => {
      // Its recovery has no other means than its push had.
      const timeouts = setup.settings.timeouts === scenario.timeouts ? scenario.timeouts : RECOVERY_TIMEOUTS;
      const settings = { ...setup.settings, fallback, timeouts };
      if (!needsProcess(scenario)) return weightcast({ ...setup, settings });
      // As the command line runs it.
      const process = forkedWeightcast({ ...setup, settings: { ...settings, guardian: true } });
      return { ...process, push: (job) => process.push(job).catch((error) => afterGuardian(error, setup)) };
    },
  };
}

/** What a user who looks is told after a kill: engines that the guardian could not put right stand in the records, which `weightcast doctor` reads. */
async function afterGuardian(error: unknown, { engines, settings }: CoordinatorSetup): Promise<Outcome> {
  if (!(error instanceof CoordinatorKilled)) throw error;
  await sleep(TAKES_OVER_MS);
  const place = statePlace(settings.stateDir);
  let records = await lookAtRecords(place);
  for (const end = Date.now() + GUARDIAN_MS; Date.now() < end && records.some(({ live }) => live); ) {
    await sleep(GUARDIAN_LOOK_MS);
    records = await lookAtRecords(place);
  }
  const named = engines.filter((url) => {
    const seen = { url, paused: true, processStart: null, mayHideAPause: false };
    return findingOf(records, seen).kind !== 'nothing';
  });
  return {
    ok: false,
    claims: new Map(named.map((url) => [url, 'excluded'])),
    error: { code: 'KILLED', message: 'killed' },
    report: null,
  };
}

function peer(
  name: PeerName,
  title: string,
  setUp: {
    readonly vllm: Scenario['vllm'];
    readonly lacks: readonly FaultPhase[];
    readonly pace: Pace;
  },
): Contestant {
  const { vllm, lacks, pace } = setUp;
  return {
    name,
    title,
    scenario: (seed) => without(lacks, { ...disturbedPush(seed, pace), vllm }),
    factory: (scenario, setup) => {
      const recovers = setup.settings.timeouts !== scenario.timeouts;
      const slower = { ...pace, msPerSecond: 3 * pace.msPerSecond };
      const options = { peer: name, workers: scenario.workers, pace: recovers ? slower : pace };
      return needsProcess(scenario) ? peerForked(options, setup) : peerInProcess(options, setup);
    },
  };
}

export function contestants(pace: Pace): readonly Contestant[] {
  return [
    ours('weightcast', 'weightcast', 'none', pace),
    ours('weightcast-files', 'weightcast, `--fallback filesystem`', 'filesystem', pace),
    peer('prime-rl', "prime-rl's order of calls", {
      vllm: '0.20.2',
      lacks: ['start', 'finish', 'verify', 'reset'],
      pace,
    }),
    peer('vllm-trainer', "vLLM's trainer client, one group", {
      vllm: '0.32.0',
      lacks: ['verify', 'reset'],
      pace,
    }),
    peer('vllm-trainer-per-server', "vLLM's trainer client, a group a server", {
      vllm: '0.32.0',
      lacks: ['verify', 'reset'],
      pace,
    }),
  ];
}
