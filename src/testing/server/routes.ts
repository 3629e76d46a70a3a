/** The routes of each recorded vLLM version (contracts/recorded/vllm/routes-*.json), and what hides them. */
import { VLLM_VERSIONS, type VllmVersion } from './profile.js';

export type Method = 'GET' | 'POST' | 'DELETE';

interface RouteRow {
  readonly path: string;
  readonly methods: readonly Method[];
  readonly since: VllmVersion;
  /** 'dev' needs VLLM_SERVER_DEV_MODE, 'lora' VLLM_ALLOW_RUNTIME_LORA_UPDATING. */
  readonly gate: 'dev' | 'lora' | null;
  readonly absentFrom: readonly VllmVersion[];
}

function rows(
  since: VllmVersion,
  gate: RouteRow['gate'],
  text: string,
  absentFrom: readonly VllmVersion[] = [],
): RouteRow[] {
  return text
    .trim()
    .split(/\s+/)
    .map((item) => {
      const [methods = '', path = ''] = item.split(':');
      return { path, methods: methods.split(',') as Method[], since, gate, absentFrom };
    });
}

const TABLE: readonly RouteRow[] = [
  ...rows(
    '0.16.0',
    null,
    `GET:/health GET:/load GET:/metrics GET,POST:/ping GET:/version POST:/tokenize POST:/detokenize
    POST:/invocations POST:/is_scaling_elastic_ep POST:/scale_elastic_ep GET:/v1/models
    POST:/v1/completions POST:/v1/chat/completions POST:/v1/messages POST:/v1/responses
    GET:/v1/responses/{response_id} POST:/v1/responses/{response_id}/cancel`,
  ),
  ...rows(
    '0.16.0',
    null,
    'POST:/inference/v1/generate POST:/v1/chat/completions/render POST:/v1/completions/render',
    ['0.30.0'],
  ),
  ...rows(
    '0.16.0',
    'dev',
    `POST:/collective_rpc GET:/get_world_size POST:/init_weight_transfer_engine GET:/is_paused
    GET:/is_sleeping POST:/pause POST:/reset_encoder_cache POST:/reset_mm_cache POST:/reset_prefix_cache
    POST:/resume GET:/server_info POST:/sleep POST:/update_weights POST:/wake_up`,
  ),
  ...rows(
    '0.16.0',
    'lora',
    'POST:/adapters DELETE:/adapters/{adapter_name} POST:/v1/load_lora_adapter POST:/v1/unload_lora_adapter',
  ),
  ...rows('0.18.1', null, 'POST:/v1/messages/count_tokens'),
  ...rows('0.20.2', null, 'POST:/generative_scoring POST:/v1/chat/completions/batch'),
  ...rows('0.22.1', 'dev', 'POST:/start_weight_update POST:/finish_weight_update'),
  ...rows('0.24.0', null, 'POST:/v1/chat/completions/derender POST:/v1/completions/derender', ['0.30.0']),
  ...rows(
    '0.27.1',
    'dev',
    'POST:/abort_requests POST:/start_draft_weight_update POST:/update_weight_version GET:/weight_info',
  ),
  ...rows(
    '0.32.0',
    null,
    `POST:/inference/v1/abort_requests GET:/kv_event_sources POST:/v1/messages/render
    POST:/v1/responses/render POST:/v1/systemone`,
  ),
  ...rows(
    '0.32.0',
    'dev',
    'POST:/release_kv_cache_memory POST:/shutdown_weight_transfer_engine POST:/weight_checker',
  ),
  ...rows('0.33.0', null, 'POST:/v1/decisions'),
];

/** Path → methods, as /openapi.json of this version lists them. */
export function routesOf(
  version: VllmVersion,
  gates: { readonly devMode: boolean; readonly loraUpdating: boolean },
): ReadonlyMap<string, readonly Method[]> {
  const age = VLLM_VERSIONS.indexOf(version);
  const open = TABLE.filter(
    (row) =>
      VLLM_VERSIONS.indexOf(row.since) <= age &&
      !row.absentFrom.includes(version) &&
      (row.gate !== 'dev' || gates.devMode) &&
      (row.gate !== 'lora' || gates.loraUpdating),
  );
  return new Map(open.map((row) => [row.path, row.methods]));
}

/** Body of /openapi.json: the paths and methods, without the schemas. */
export function openApi(routes: ReadonlyMap<string, readonly Method[]>): unknown {
  const paths = [...routes].map(([path, methods]) => [
    path,
    Object.fromEntries(
      methods.map((method) => [
        method.toLowerCase(),
        { responses: { 200: { description: 'Successful Response' } } },
      ]),
    ),
  ]);
  return {
    openapi: '3.1.0',
    info: { title: 'FastAPI', version: '0.1.0' },
    paths: Object.fromEntries(paths),
  };
}
