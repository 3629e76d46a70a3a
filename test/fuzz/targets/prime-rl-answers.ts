/** What prime-rl's servers answer, of the newest generation and of the oldest, by NCCL and by files. */
import { generationOf } from '../../../src/engines/prime-rl/generation.js';
import { listedRoutes, question } from '../../../src/engines/question.js';
import { update } from '../../engines/dynamo/workers.js';
import { adminOf, openApi, ROUTES as RELEASES, seatOf } from '../../engines/prime-rl/support.js';
import {
  aName,
  answerTarget,
  anything,
  aTime,
  type Check,
  cards,
  orNull,
  type Route,
  scores,
} from './answer-target.js';

const TOKENS = [11, 7, 42];

function routesOf(release: '0.3' | '0.8', broadcast: 'nccl' | 'filesystem'): Route[] {
  const admin = adminOf(release, broadcast);
  const all: (readonly [Route['exchange'] | null, Check])[] = [
    [admin.health(), anything],
    [admin.listModels(), cards],
    [admin.pause({ mode: 'keep', clearCache: false }), anything],
    [admin.resume(), anything],
    [admin.initBroadcaster(seatOf(0, [2, 2])), anything],
    [admin.updateWeights(update), anything],
    [admin.reloadFromDisk('/ckpt', { weightVersion: null }), orNull(anything)],
    [admin.processStart(), orNull(aTime)],
    [admin.scorePrompt({ model: 'm', tokens: TOKENS }), scores(TOKENS.length - 1)],
    [admin.loadLoraAdapter({ name: 'n', path: '/p' }), anything],
    [admin.unloadLoraAdapter({ name: 'n' }), anything],
  ];
  return all.flatMap(([exchange, check]) => (exchange === null ? [] : [{ exchange, check }]));
}

const identity: Route = {
  exchange: question('openapi', '/openapi.json', (reply) => {
    const listed = listedRoutes(reply);
    return listed === null ? '' : generationOf(listed).version;
  }),
  check: aName,
};

export const primeRlAnswers = answerTarget(
  'prime-rl-answers',
  [identity, ...routesOf('0.8', 'nccl'), ...routesOf('0.3', 'filesystem')],
  [
    { route: '/openapi.json', body: JSON.stringify(openApi(RELEASES['0.8'])) },
    { route: '/health', body: '{"status":"ok"}' },
    { route: '/health', status: 503, body: '' },
    { route: 'pause', body: '{"status":"paused"}' },
    { route: 'resume', body: '{"status":"resumed"}' },
    { route: '/init_broadcaster', body: '{"status":"ok"}' },
    { route: '/init_broadcaster', status: 404, body: '{"detail":"Not Found"}' },
    { route: '/update_weights', body: '{"status":"ok"}' },
    {
      route: '/update_weights',
      status: 500,
      body: '{"error":{"message":"EngineCore encountered an issue"}}',
    },
    { route: 'models', body: '{"data":[{"id":"m","root":"/m","parent":null}]}' },
    { route: 'metrics', body: 'process_start_time_seconds 1.7e9\n' },
    {
      route: 'score',
      body: '{"choices":[{"prompt_logprobs":[null,{"7":{"logprob":-1.5}},{"42":{"logprob":-2}}]}]}',
    },
    { route: 'unload_lora_adapter', status: 404, body: '{"error":{"message":"not loaded","code":404}}' },
  ],
);
