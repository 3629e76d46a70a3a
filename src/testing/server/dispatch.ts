/** From a request to its answer: authorization, routes, handlers. No socket here, so recordings can be replayed against it. */
import { ADMIN, type Handler } from './admin.js';
import { completions } from './completions.js';
import type { Core } from './core.js';
import { generate } from './generate.js';
import { MODELS } from './models.js';
import {
  type Answer,
  failure,
  json,
  METHOD_NOT_ALLOWED,
  NOT_FOUND,
  serverError,
  UNAUTHORIZED,
} from './replies.js';
import { type Method, openApi, routesOf } from './routes.js';
import { TRANSFER } from './transfer.js';
import { Refusal, type Request } from './validation.js';

export interface Access {
  readonly apiKey: string | null;
  readonly devMode: boolean;
  readonly loraUpdating: boolean;
}

export type Dispatch = (request: Request, signal: AbortSignal) => Promise<Answer>;

const HANDLERS: Readonly<Record<string, Handler>> = {
  ...ADMIN,
  ...TRANSFER,
  ...MODELS,
  'POST /v1/completions': completions,
  'POST /inference/v1/generate': generate,
};

export function dispatcher(core: Core, access: Access): Dispatch {
  const routes = routesOf(core.profile.version, access);
  const description = openApi(routes);
  return async (request, signal) => {
    if (!authorized(core, access, request)) {
      return UNAUTHORIZED;
    }
    if (request.path === '/openapi.json') {
      return json(description);
    }
    const methods = routes.get(request.path);
    if (methods === undefined) {
      return NOT_FOUND;
    }
    if (!methods.includes(request.method as Method)) {
      return METHOD_NOT_ALLOWED;
    }
    const handler = HANDLERS[`${request.method} ${request.path}`];
    if (handler === undefined) {
      return failure(
        501,
        'NotImplementedError',
        `A reference engine does not serve ${request.method} ${request.path}.`,
      );
    }
    try {
      return await handler(core, request, signal);
    } catch (error) {
      if (error instanceof Refusal) {
        return error.answer;
      }
      return serverError(core.profile, error instanceof Error ? error.message : String(error));
    }
  };
}

/** The API key guards some prefixes; the admin routes stay open, as in vLLM. */
function authorized(core: Core, access: Access, request: Request): boolean {
  const guarded = core.profile.guarded.some(
    (prefix) => request.path === prefix || request.path.startsWith(`${prefix}/`),
  );
  return access.apiKey === null || !guarded || request.authorization === `Bearer ${access.apiKey}`;
}
