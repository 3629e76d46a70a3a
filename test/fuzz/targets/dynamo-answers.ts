/** What Dynamo's workers answer, in each of their dialects, and what its discovery lists. */
import type { EngineLife } from '../../../src/engines/admin.js';
import type { DynamoDialect } from '../../../src/engines/dynamo/parameters.js';
import { question } from '../../../src/engines/question.js';
import { type DynamoSnapshot, readSnapshot } from '../../../src/fleet/dynamo/answer.js';
import { ALL, replyOf } from '../../engines/dynamo/recordings.js';
import { adminOf, seat, update } from '../../engines/dynamo/workers.js';
import { listJson, recorded, workerJson } from '../../fleet/dynamo/recorded.js';
import {
  aCount,
  aName,
  answerTarget,
  anything,
  aTime,
  type Check,
  cards,
  orNull,
  type Route,
  type Said,
  scores,
  yesNo,
} from './answer-target.js';
import { expectTrue } from './target.js';

const TOKENS = [11, 7, 42];
const INSTANCE = '12133735542955933045';
const DISCOVERY = '/v1/rl/workers';

function routesOf(dialect: DynamoDialect): Route[] {
  const admin = adminOf(dialect, { instance_id: INSTANCE, model: 'tiny' });
  const receives = dialect !== 'sglang';
  const all: (readonly [Route['exchange'] | null | undefined, Check])[] = [
    [admin.health(), anything],
    [admin.listModels(), cards],
    [admin.isPaused(), yesNo],
    [admin.pause({ mode: 'keep', clearCache: true }), anything],
    [admin.resume(), anything],
    [receives ? admin.initBroadcaster(seat) : null, anything],
    [admin.startUpdate(), anything],
    [receives ? admin.updateWeights(update) : null, anything],
    [admin.finishUpdate({ weightVersion: '7' }), anything],
    [admin.reloadFromDisk('/ckpt', { weightVersion: '7' }), orNull(aCount)],
    [admin.resetPrefixCache({ resetRunningRequests: false }), orNull(yesNo)],
    [admin.weightVersion(), aName],
    [admin.setWeightVersion('7'), anything],
    [admin.processStart(), orNull(aTime)],
    [admin.runningRequests?.(), orNull(aCount)],
    [admin.life?.(), life],
    [admin.scorePrompt({ model: 'tiny', tokens: TOKENS }), scores(TOKENS.length - 1)],
    [admin.loadLoraAdapter({ name: 'n', path: '/p' }), anything],
    [admin.unloadLoraAdapter({ name: 'n' }), anything],
  ];
  return all.flatMap(([exchange, check]) => (exchange == null ? [] : [{ exchange, check }]));
}

const life: Check = (value) => {
  const { processStart, sleep } = value as EngineLife;
  orNull(aTime)(processStart);
  orNull(aName)(sleep);
};

/** Whoever is listed will be sent admin requests and credentials. */
const snapshot: Check = (value) => {
  const { workers, unusable } = value as DynamoSnapshot;
  for (const { identity, systemUrl, worldSize, routes } of workers) {
    expectTrue(/\/\d{1,20}$/.test(identity), 'no identity');
    expectTrue(new URL(systemUrl).origin === systemUrl, 'an address that is no origin');
    expectTrue(Number.isSafeInteger(worldSize) && worldSize > 0, 'no number of workers');
    expectTrue(routes.length > 0, 'no routes');
  }
  for (const { why } of unusable) expectTrue(why.length < 2_000, 'a reason without end');
  const identities = [...workers, ...unusable].map(({ identity }) => identity);
  expectTrue(new Set(identities).size === identities.length, 'a worker that is listed twice');
};

const discovery: Route = {
  exchange: question('rl_workers', DISCOVERY, (reply) =>
    readSnapshot(reply, 'http://127.0.0.1:8001', { listenerHost: '127.0.0.1', workers: null }),
  ),
  check: snapshot,
};

const said: readonly Said[] = [
  ...distinct(
    ALL.flatMap((each) =>
      each.status === null ? [] : [{ route: each.path, status: each.status, body: replyOf(each).text }],
    ),
  ),
  { route: DISCOVERY, body: recorded('fixed port x2').text },
  { route: DISCOVERY, body: recorded('killed -9').text },
  { route: DISCOVERY, body: listJson(workerJson(INSTANCE), workerJson('7', { system_url: null })) },
  // Objects that are no text, and can't be made one by String().
  { route: DISCOVERY, body: listJson(workerJson('9', { error: { toString: 1 } })) },
  { route: DISCOVERY, body: '{"protocol_version":{"toString":1},"workers":[]}' },
  {
    route: 'score',
    body: `{"nvext":{"worker_id":{"decode_worker_id":${INSTANCE}},"prompt_logprobs":[null,{"7":{"logprob":-1.5}},{"42":{"logprob":-2}}]}}`,
  },
  {
    route: 'metrics',
    body: 'dynamo_component_uptime_seconds{worker_id="a86315a1e3bd5275"} 1\ndynamo_component_inflight_requests{dynamo_endpoint="generate"} 2\nvllm:engine_sleep_state{sleep_state="awake"} 1\n',
  },
];

/** One of each kind: recordings repeat themselves. */
function distinct(all: readonly Said[]): readonly Said[] {
  return [
    ...new Map(all.map((each) => [`${each.route} ${each.status} ${each.body.slice(0, 40)}`, each])).values(),
  ].slice(0, 200);
}

export const dynamoAnswers = answerTarget(
  'dynamo-answers',
  [discovery, ...(['python', 'sidecar', 'sglang'] as const).flatMap(routesOf)],
  said,
);
