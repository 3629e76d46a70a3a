import type { Exchange } from '../../../src/engines/admin.js';
import { isRecord } from '../../../src/engines/is-record.js';
import { vllmAdmin } from '../../../src/engines/vllm/admin.js';
import { crossCheck } from '../../../src/engines/vllm/cross-check.js';
import { selectDialect } from '../../../src/engines/vllm-native/dialects.js';
import * as read from '../../../src/engines/vllm-native/read.js';
import { tensorParallelSize } from '../../../src/update/digests.js';
import { candidatesFor, judge } from '../../../src/weights/proof.js';
import { recorded, routes, VERSIONS } from '../../engines/vllm/recordings.js';
import { tensorOf } from '../../weights/files.js';
import {
  aName,
  anything,
  aTime,
  type Check,
  cards,
  orNull,
  type Route,
  runAnswer,
  STATUSES,
  scores,
  yesNo,
} from './answer-target.js';
import { expectTrue, type FuzzTarget, text, valueOrRefusal } from './target.js';

const TOKENS = [11, 7, 42];
const workers: Check = (value) =>
  expectTrue(
    Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 65_536,
    'no number of workers',
  );

const TENSORS = ['model.layers.0.self_attn.q_proj.weight', 'model.norm.weight'].map((tensor) =>
  tensorOf(tensor, 'BF16', [4, 4]),
);
const PLAN = candidatesFor(TENSORS, 1);
const DIGESTS = PLAN.candidates.map((_, i) => String(i % 10).repeat(64));

const sums: Check = (value) => {
  const reported = value as Parameters<typeof judge>[2];
  expectTrue(tensorParallelSize(reported) >= 1, 'no size');
  const verdict = judge(PLAN, DIGESTS, reported);
  expectTrue(
    verdict.proved.length + verdict.mismatched.length + verdict.unprovable.length === verdict.total,
    'a parameter without a verdict',
  );
};

/** Every answer of a vLLM server that the product reads, of the newest dialect and of the oldest. */
export const ROUTES: readonly Route[] = ['0.33.0', '0.16.0'].flatMap((version) => {
  const { dialect } = selectDialect(version);
  const admin = vllmAdmin({ engine: 'e', version, notes: [] }, dialect);
  const all: (readonly [Exchange<unknown> | null, Check])[] = [
    [admin.worldSize(), workers],
    [admin.isPaused(), yesNo],
    [admin.listModels(), cards],
    [admin.checksums(), sums],
    [admin.scorePrompt({ model: 'm', tokens: TOKENS }), scores(TOKENS.length - 1)],
    [admin.processStart(), orNull(aTime)],
    [admin.weightVersion(), aName],
    [admin.reloadFromDisk('/d'), workers],
    [admin.resetPrefixCache({ resetRunningRequests: false }), orNull(yesNo)],
    [admin.pause({ mode: 'keep', clearCache: false }), anything],
    [admin.resume(), anything],
    [admin.health(), anything],
    [admin.finishUpdate({ weightVersion: '1' }), anything],
    [admin.setWeightVersion('1'), anything],
    [admin.loadLoraAdapter({ name: 'n', path: '/p' }), anything],
    [version === '0.33.0' ? probe('version', read.text('version')) : null, dialectOf],
    [
      version === '0.33.0'
        ? probe('openapi', (reply) => (isRecord(reply.json) ? reply.json.paths : null))
        : null,
      routesOf,
    ],
  ];
  return all.flatMap(([exchange, check]) => (exchange === null ? [] : [{ exchange, check }]));
});

function probe<T>(operation: string, reader: read.Reader<T>): Exchange<T> {
  const call = { engine: 'e', operation, route: 'open' } as const;
  return {
    ...vllmAdmin({ engine: 'e', version: '', notes: [] }, selectDialect('0.33.0').dialect).health(),
    operation,
    read: (reply) => reader(reply, call),
  };
}

function dialectOf(version: unknown): void {
  const chosen = valueOrRefusal(() => selectDialect(version as string, 'e'), 'WC_ENGINE_VERSION');
  if (chosen !== null) expectTrue(JSON.stringify(chosen.notes).length < 10_000, 'notes without end');
}

function routesOf(paths: unknown): void {
  if (isRecord(paths)) crossCheck(selectDialect('0.33.0'), new Set(Object.keys(paths)));
}

export const engineAnswers: FuzzTarget = {
  name: 'engine-answers',
  seeds: () => [
    ...fromRecordings(),
    ...ROUTES.map((_, i) => Buffer.concat([Uint8Array.of(i, 0, 255), text(BODIES[i % BODIES.length]!)])),
  ],
  run: (input) => runAnswer(ROUTES, input),
};

const BODIES = [
  '{"world_size":2}',
  '{"is_paused":false}',
  '{"data":[{"id":"m","root":"/m","parent":null}]}',
  `{"success":true,"checksums":{"dp0:pp0:pcp0:tp0:model.norm.weight":"${'1'.repeat(64)}"}}`,
  '{"choices":[{"prompt_logprobs":[null,{"7":{"logprob":-1.5}},{"42":{"logprob":-2}}]}]}',
  '# HELP\nprocess_start_time_seconds{engine="0"} 1.7e9\n',
  '{"weight_version":"default"}',
  '{"results":[null]}',
  '{"success":true}',
  '{"status":"paused"}',
  '{"status":"resumed"}',
  '{"error":{"message":"Call to x method failed: Worker failed with error \'boom\', please check the stack trace above for the root cause"}}',
  '{"message":"ok"}',
  '{"detail":[{"loc":["body"],"msg":"field required"}]}',
];

function fromRecordings(): Uint8Array[] {
  const operations: Readonly<Record<string, string>> = { '/v1/models': 'models', '/v1/completions': 'score' };
  const bodies = new Map<string, Uint8Array>();
  for (const version of VERSIONS) {
    for (const { path, status, response } of recorded(version)) {
      const operation = operations[path] ?? path.slice(1);
      const route = ROUTES.findIndex(({ exchange }) => exchange.operation === operation);
      const body = typeof response === 'string' ? response : JSON.stringify(response);
      const at = STATUSES.indexOf(status as 200);
      if (route < 0 || at < 0 || body.length > 2_000) continue;
      bodies.set(
        `${operation} ${status} ${body.replace(/\d+/g, '0').slice(0, 60)}`,
        Buffer.concat([Uint8Array.of(route, at, 63), text(body)]),
      );
    }
  }
  const openapi = ROUTES.findIndex(({ exchange }) => exchange.operation === 'openapi');
  bodies.set(
    'openapi',
    Buffer.concat([Uint8Array.of(openapi, 0, 63), text(JSON.stringify({ paths: routes('0.33.0') }))]),
  );
  return [...bodies.values()];
}
