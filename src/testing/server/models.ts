/** /v1/models and the LoRA adapters beside the base model. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Handler } from './admin.js';
import type { Core } from './core.js';
import { type Answer, failure, json } from './replies.js';
import { type JsonObject, missing, Refusal, type Request, typedBody } from './validation.js';

function card(core: Core, id: string, root: string, parent: string | null): unknown {
  const created = Math.floor(Date.now() / 1000);
  return {
    id,
    object: 'model',
    created,
    owned_by: 'vllm',
    root,
    parent,
    max_model_len: parent === null ? core.options.maxModelLen : null,
    permission: [
      {
        id: `modelperm-${randomBytes(8).toString('hex')}`,
        object: 'model_permission',
        created,
        allow_create_engine: false,
        allow_sampling: true,
        allow_logprobs: true,
        allow_search_indices: false,
        allow_view: true,
        allow_fine_tuning: false,
        organization: '*',
        group: null,
        is_blocking: false,
      },
    ],
  };
}

const models: Handler = (core) => {
  const { servedModelName, model } = core.options;
  return json({
    object: 'list',
    data: [
      card(core, servedModelName, model, null),
      ...[...core.loras].map(([name, path]) => card(core, name, path, servedModelName)),
    ],
  });
};

/** vLLM sends these two texts with no content type. */
const said = (body: string): Answer => ({ status: 200, contentType: null, body });

const invalidInput = (message: string): Refusal => new Refusal(failure(400, 'InvalidUserInput', message));

const notFound = (message: string): Refusal => new Refusal(failure(404, 'NotFoundError', message));

function loraBody(core: Core, request: Request, fields: readonly string[]): JsonObject {
  if (request.contentType !== 'application/json') {
    throw new Refusal(
      failure(
        400,
        'Bad Request',
        "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed",
      ),
    );
  }
  const body = typedBody(core.profile, request) ?? {};
  const absent = fields.find((field) => typeof body[field] !== 'string');
  if (absent !== undefined) {
    throw missing(core.profile, absent, body);
  }
  return body;
}

const load: Handler = (core, request) => {
  const body = loraBody(core, request, ['lora_name', 'lora_path']);
  const name = String(body.lora_name);
  const path = String(body.lora_path);
  if (name === '' || path === '') {
    throw invalidInput("Both 'lora_name' and 'lora_path' must be provided.");
  }
  if (name === core.options.servedModelName && core.profile.guardsModelName) {
    throw invalidInput(`The lora adapter '${name}' conflicts with a served base model.`);
  }
  if (core.loras.has(name) && body.load_inplace !== true) {
    throw invalidInput(
      `The lora adapter '${name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.`,
    );
  }
  return core.utility(() => {
    if (!existsSync(join(path, 'adapter_config.json'))) {
      throw notFound(`Loading lora ${name} failed: No adapter found for ${path}`);
    }
    core.loras.set(name, path);
    return said(`Success: LoRA adapter '${name}' added successfully.`);
  });
};

/** Forgets the name in the API server; the core is not asked. */
const unload: Handler = (core, request) => {
  const body = loraBody(core, request, ['lora_name']);
  const name = String(body.lora_name);
  if (name === '') {
    throw invalidInput("'lora_name' needs to be provided to unload a LoRA adapter.");
  }
  if (!core.loras.delete(name)) {
    throw notFound(`The lora adapter '${name}' cannot be found.`);
  }
  return said(`Success: LoRA adapter '${name}' removed successfully.`);
};

export const MODELS: Readonly<Record<string, Handler>> = {
  'GET /v1/models': models,
  'POST /v1/load_lora_adapter': load,
  'POST /v1/unload_lora_adapter': unload,
};
