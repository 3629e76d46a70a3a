import { deltaFile } from './delta-file.js';
import { dynamoAnswers } from './dynamo-answers.js';
import { engineAnswers } from './engine-answers.js';
import { inferenceAnswers } from './inference-answers.js';
import { manifestFile } from './manifest-file.js';
import { primeRlAnswers } from './prime-rl-answers.js';
import { pushRecord } from './push-record.js';
import { safetensorsHeader } from './safetensors-header.js';
import { settingsFile } from './settings-file.js';
import { shardIndex } from './shard-index.js';
import { storeRequests } from './store-requests.js';
import type { FuzzTarget } from './target.js';
import { uniqueId } from './unique-id.js';

/** Every parser of the product that reads bytes from elsewhere. */
export const TARGETS: readonly FuzzTarget[] = [
  safetensorsHeader,
  shardIndex,
  storeRequests,
  engineAnswers,
  primeRlAnswers,
  dynamoAnswers,
  inferenceAnswers,
  settingsFile,
  uniqueId,
  pushRecord,
  manifestFile,
  deltaFile,
];
