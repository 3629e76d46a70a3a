/** What a fault does to the requests of one push. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type FaultPhase, KINDS } from './catalogue.js';
import { isThreeStep, QUESTIONS, REFUSAL } from './dialect.js';
import type { Deed, Gate } from './gate.js';
import type { Backend, Fault, Scenario } from './scenario.js';

/** What the faults of a push act upon. */
export interface Targets {
  readonly scenario: Scenario;
  /** Index of the push in its run. */
  readonly index: number;
  readonly gates: readonly Gate[];
  killEngine(engine: number): Promise<void>;
  /** Kills it; while the push goes on another one takes its place. */
  restartEngine(engine: number, delayMs: number): Promise<void>;
  killCoordinator(): void;
  interrupt(): void;
  /** Something goes wrong where the engines are found. */
  disturbSource(fault: Fault): void;
  /** Somebody else pushes to the same engines. */
  rival(): Promise<void>;
  damageDisk(fault: Fault): Promise<void>;
}

/** One armed fault. */
export interface Strike {
  readonly fault: Fault;
  /** How often it struck. */
  count: number;
}

/** What a late request comes after, at the latest. */
const SOON_MS = 50;

/** Arms the faults of a push at the gates. Faults of the engines' own processes are set elsewhere: see own-faults.ts. */
export function arm(faults: readonly Fault[], targets: Targets, pushEnded: Promise<void>): readonly Strike[] {
  const strikes = faults.map((fault): Strike => ({ fault, count: 0 }));
  for (const [engine, gate] of targets.gates.entries()) {
    const mine = strikes.filter(({ fault }) => fault.engine === engine);
    const answered = new Set<string>();
    let next: (() => void) | null = null;
    gate.onAnswered = (path) => {
      answered.add(path);
      next?.();
      for (const strike of mine) refuseAfter(strike, { gate, answered, targets });
    };
    const afterNext = () =>
      new Promise<void>((resolve) => {
        next = resolve;
      });
    gate.decide((seen) => {
      for (const strike of mine) {
        const { fault } = strike;
        if (fault.kind === 'refused' || !pathsOf(fault, targets).includes(seen.path)) continue;
        if (strike.count > 0 && fault.once) continue;
        const deed = deedOf(fault, { targets, afterNext, pushEnded, first: strike.count === 0 });
        if (deed === null) continue;
        strike.count += 1;
        return deed;
      }
      return null;
    });
    for (const strike of mine) refuseAfter(strike, { gate, answered, targets });
  }
  return strikes;
}

const backendOf = ({ engine }: Fault, { scenario }: Targets): Backend => scenario.backends[engine] ?? 'vllm';

/** The routes of a phase. */
function pathsOf(fault: Fault, targets: Targets): readonly string[] {
  const { scenario, index } = targets;
  switch (fault.phase) {
    case 'preflight': {
      const { always, first } = QUESTIONS[backendOf(fault, targets)];
      const asked = [...always, ...(index === 0 ? first : [])];
      return [asked[Math.floor(fault.chance * asked.length)] as string];
    }
    case 'init':
      return ['/init_weight_transfer_engine'];
    case 'pause':
      return ['/pause'];
    case 'start':
      return ['/start_weight_update'];
    case 'receive':
      return [scenario.transport === 'nccl' ? '/update_weights' : '/collective_rpc'];
    case 'finish':
      return ['/finish_weight_update'];
    case 'verify':
      return ['/weight_checker', '/v1/completions'];
    case 'reset':
      return ['/reset_prefix_cache'];
    case 'resume':
      return ['/resume'];
  }
}

/** Nobody listens from the answer to the request before on: so the request itself is refused, which a proxy can't do once it has come. */
function refuseAfter(
  strike: Strike,
  {
    gate,
    answered,
    targets,
  }: { readonly gate: Gate; readonly answered: ReadonlySet<string>; readonly targets: Targets },
): void {
  const { fault } = strike;
  if (fault.kind !== 'refused' || strike.count > 0) return;
  if (!predecessors(fault.phase, backendOf(fault, targets), targets).every((path) => answered.has(path)))
    return;
  strike.count += 1;
  gate.refuse();
  if (fault.once) void sleep(100 + 300 * fault.chance).then(() => gate.accept().catch(() => undefined));
}

function predecessors(phase: FaultPhase, backend: Backend, { scenario, index }: Targets): readonly string[] {
  const nccl = scenario.transport === 'nccl';
  const threeStep = nccl && isThreeStep(backend, scenario);
  const questions = QUESTIONS[backend].always;
  const loaded = threeStep ? '/finish_weight_update' : nccl ? '/update_weights' : '/collective_rpc';
  const proved = scenario.verify === 'digest' ? '/weight_checker' : loaded;
  switch (phase) {
    case 'preflight':
      return [];
    case 'init':
      return questions;
    case 'pause':
      return nccl && index === 0 ? ['/init_weight_transfer_engine'] : questions;
    case 'start':
      return ['/pause'];
    case 'receive':
      return [threeStep ? '/start_weight_update' : '/pause'];
    case 'finish':
      return ['/update_weights'];
    case 'verify':
      return [scenario.verify === 'digest' ? loaded : '/resume'];
    case 'reset':
      return [proved];
    case 'resume':
      return [scenario.clearCache ? proved : '/reset_prefix_cache'];
  }
}

interface Circumstances {
  readonly targets: Targets;
  readonly afterNext: () => Promise<void>;
  readonly pushEnded: Promise<void>;
  /** It has not struck yet. */
  readonly first: boolean;
}

function deedOf(fault: Fault, circumstances: Circumstances): Deed | null {
  const { layer } = KINDS[fault.kind];
  if (layer === 'http') return httpDeed(fault, circumstances);
  if (layer === 'nccl') return ncclDeed(fault, circumstances);
  return circumstances.first ? happening(fault, circumstances.targets) : null;
}

function httpDeed(fault: Fault, { targets, afterNext, pushEnded }: Circumstances): Deed | null {
  const forward = fault.applied ? 'now' : 'never';
  const answer = (status: number, text: string): Deed => ({
    forward,
    reply: { kind: 'answer', status, text },
  });
  switch (fault.kind) {
    case 'reset':
      return { forward: 'never', reply: { kind: 'reset' } };
    case 'lost':
      return { forward: 'now', reply: { kind: 'reset' } };
    case 'slow':
      return {
        forward: 'now',
        reply: { kind: 'pass' },
        delayMs: targets.scenario.timeouts.pause * (0.2 + fault.chance),
      };
    case 'error-500':
      return answer(500, '{"error":{"message":"injected","type":"InternalServerError","code":500}}');
    case 'error-503':
      return answer(503, '{"error":{"message":"overloaded","type":"ServiceUnavailableError","code":503}}');
    case 'ok-error':
      return answer(200, REFUSAL[backendOf(fault, targets)]);
    case 'malformed':
      return answer(200, fault.chance < 0.5 ? '{"status":"pau' : '<html>It works!</html>');
    case 'huge':
      return { forward, reply: { kind: 'flood' } };
    case 'drip':
      return { forward, reply: { kind: 'drip' } };
    case 'silent':
      return { forward: 'never', reply: { kind: 'none' } };
    case 'mute':
      return { forward: 'now', reply: { kind: 'none' } };
    case 'late':
      return { forward: (gone) => arrival(fault, { gone, afterNext, pushEnded }), reply: { kind: 'none' } };
    default:
      return null;
  }
}

async function arrival(
  { arrives }: Fault,
  when: {
    readonly gone: Promise<void>;
    readonly afterNext: () => Promise<void>;
    readonly pushEnded: Promise<void>;
  },
): Promise<void> {
  if (arrives === 'after-push') return when.pushEnded;
  await Promise.race([when.gone, when.pushEnded]);
  if (arrives === 'soon') await sleep(SOON_MS);
  else await Promise.race([when.afterNext(), when.pushEnded]);
}

function ncclDeed(fault: Fault, { first }: Circumstances): Deed | null {
  if (!first) return null;
  // The others are faults of a process; seeing the request of their phase, they are counted.
  const alter = fault.kind === 'byte-mismatch' ? doubled : undefined;
  return { forward: 'now', reply: { kind: 'pass' }, ...(alter === undefined ? {} : { alter }) };
}

/** Makes the engine expect chunks of twice the size. */
function doubled(body: string): string {
  return body.replace(
    /"packed_buffer_size_bytes":(\d+)/,
    (_, size: string) => `"packed_buffer_size_bytes":${Number(size) * 2}`,
  );
}

/** Something happens to a process, or to the disk, as the request comes by. */
function happening(fault: Fault, targets: Targets): Deed {
  const happen = async (): Promise<void> => {
    switch (fault.kind) {
      case 'engine-killed':
        return targets.killEngine(fault.engine);
      case 'engine-restarted':
        return targets.restartEngine(fault.engine, 300 * fault.chance);
      case 'coordinator-killed':
        return targets.killCoordinator();
      case 'interrupted':
        return targets.interrupt();
      case 'two-coordinators':
        return targets.rival();
      case 'unlisted':
      case 'source-fails':
        return targets.disturbSource(fault);
      default:
        return targets.damageDisk(fault);
    }
  };
  return {
    forward: 'now',
    reply: { kind: 'pass' },
    ...(fault.afterwards ? { after: happen } : { before: happen }),
  };
}
