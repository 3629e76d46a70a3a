/** /inference/v1/generate: token ids in and out, as /v1/completions otherwise. From 0.32 on as with `--enable-scale-out`. */
import { randomBytes } from 'node:crypto';
import type { Handler } from './admin.js';
import { ask } from './completion-request.js';
import { promptLogprobs, run, weightVersions } from './completions.js';
import { json } from './replies.js';
import { isObject, missing, parseJson } from './validation.js';

export const generate: Handler = async (core, request, signal) => {
  const parsed = parseJson(request.text)?.value;
  const body = isObject(parsed) ? parsed : {};
  for (const field of ['token_ids', 'sampling_params']) {
    if (body[field] === undefined) {
      throw missing(core.profile, field, body);
    }
  }
  const sampling = isObject(body.sampling_params) ? body.sampling_params : {};
  const asked = ask(core, {
    ...request,
    text: JSON.stringify({
      ...sampling,
      model: body.model,
      prompt: body.token_ids,
      cache_salt: body.cache_salt,
    }),
  });
  const { completion, reason } = await run(core, asked, signal);
  const { tokens } = completion;
  return json({
    request_id: `generate-tokens-${randomBytes(8).toString('hex')}`,
    choices: [
      {
        index: 0,
        logprobs:
          asked.logprobs === null
            ? null
            : {
                content: tokens.map(({ token, logprob }) => ({
                  token: `token_id:${token}`,
                  logprob,
                  bytes: null,
                  top_logprobs: [],
                })),
              },
        finish_reason: reason,
        token_ids: tokens.map(({ token }) => token),
        ...(core.profile.typedBodies ? { weight_versions: weightVersions(completion.versions) } : {}),
      },
    ],
    prompt_logprobs: promptLogprobs(core, asked, completion.prompt),
    kv_transfer_params: null,
  });
};
