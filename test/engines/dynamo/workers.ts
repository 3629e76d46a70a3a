/** Admins of workers that nobody has to run. */
import type { EngineAdmin, GroupSeat, WeightsUpdate } from '../../../src/engines/admin.js';
import { type DynamoDialect, dynamoParameters } from '../../../src/engines/dynamo/parameters.js';
import { pythonAdmin } from '../../../src/engines/dynamo/python.js';
import { routesOf } from '../../../src/engines/dynamo/routes.js';
import { sglangAdmin } from '../../../src/engines/dynamo/sglang.js';
import { sidecarAdmin } from '../../../src/engines/dynamo/sidecar.js';
import { target } from '../server.js';

const ADMINS = { python: pythonAdmin, sidecar: sidecarAdmin, sglang: sglangAdmin };

export function adminOf(
  dialect: DynamoDialect,
  words: Readonly<Record<string, string>> = {},
  inferenceUrl: string | null = 'http://front:8000',
): EngineAdmin {
  const engine = target('http://worker:9090', { backend: 'dynamo', inferenceUrl, parameters: words });
  const parameters = dynamoParameters(engine);
  return ADMINS[dialect]({
    target: engine,
    parameters,
    routes: routesOf(parameters.routes),
    metrics: { instanceId: null, inFlight: null, sleep: null },
    notes: [],
  });
}

export const seat: GroupSeat = {
  rankOffset: 3,
  worldSize: 5,
  fleet: [2, 2],
  masterAddress: '10.0.0.1',
  masterPort: 29500,
  uniqueId: null,
  packing: { bufferBytes: 1024, numBuffers: 2 },
  timeoutMs: 60_000,
};

export const update: WeightsUpdate = {
  tensors: [{ name: 'w', dtypeName: 'bfloat16', shape: [2, 3] }],
  packing: { bufferBytes: 1024, numBuffers: 2 },
  weightVersion: '7',
  directory: '/ckpt/step_7',
};
