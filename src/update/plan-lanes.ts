/** What each wire format of a fleet has to do in an update. */
import type { WireFormat } from '../engines/admin.js';
import type { EngineLink } from '../fleet/engine.js';
import type { GroupMember } from '../transports/nccl/group.js';
import { stagingFor } from '../transports/nccl/wire/memory.js';
import { planSteps } from '../transports/nccl/wire/plan.js';
import { orderSteps } from '../weights/order.js';
import { runInSlices } from '../weights/yielding.js';
import type { Attempt } from './attempt.js';
import type { Delta } from './delta/prepare.js';
import type { LaneWork } from './nccl-lane.js';

/** Device staging for small frames; a frame that is larger gets a slot of its size. */
const SLOT_BYTES = 64 * 1024 * 1024;

/** What is to be sent in each wire format that the engines receive. @throws WeightcastError WC_TENSOR_UNSENDABLE */
export async function planLanes({
  engines,
  facts,
  checkpoint,
  settings,
  signal,
}: Attempt): Promise<LaneWork[]> {
  const order = await runInSlices(orderSteps(checkpoint.tensors), signal);
  const lanes: LaneWork[] = [];
  for (const [wire, members] of byWire(engines)) {
    const plan = await runInSlices(planSteps(wire, order, settings.packing), signal);
    lanes.push({
      wire,
      members: members.map((engine) => memberOf(engine, facts)),
      plan,
      staging: stagingFor(plan, { slotBytes: Math.min(SLOT_BYTES, plan.byteLength) }),
      packing: settings.packing,
      files: checkpoint.files,
    });
  }
  return lanes;
}

/** What is to be sent of a delta. Its format is never packed. */
export function laneOf({ facts }: Attempt, { engines, plan, files, tensors }: Delta): LaneWork {
  return {
    wire: 'vllm',
    members: engines.map((engine) => memberOf(engine, facts)),
    plan,
    staging: stagingFor(plan, { slotBytes: Math.min(SLOT_BYTES, plan.byteLength) }),
    packing: null,
    files,
    acceptedList: tensors,
  };
}

function memberOf(engine: EngineLink, facts: Attempt['facts']): GroupMember {
  const known = facts.get(engine.id);
  if (known === undefined) throw new Error(`no facts of ${engine.id}`);
  return { engine, workers: known.workers, processStart: known.processStart };
}

function byWire(engines: readonly EngineLink[]): ReadonlyMap<WireFormat, EngineLink[]> {
  const wires = new Map<WireFormat, EngineLink[]>();
  for (const engine of engines) {
    const { wire } = engine.admin.capabilities;
    if (wire !== null) wires.set(wire, [...(wires.get(wire) ?? []), engine]);
  }
  return wires;
}
