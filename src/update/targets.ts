/** Where the engines of a session are, from options and back to options. */
import type { EngineTarget } from '../engines/http.js';
import { parseEngine } from '../engines/registry.js';
import { WeightcastError } from '../errors.js';
import type { Settings } from './settings.js';
import type { EngineSpec } from './types.js';

/** Where the engines of a session are. @throws WeightcastError WC_CONFIG_INVALID */
export function targetsOf(settings: Settings): EngineTarget[] {
  const targets = settings.engines.map((spec) => targetOf(spec, settings));
  const twice = targets.find(
    (target, index) => targets.findIndex((other) => other.id === target.id) !== index,
  );
  if (twice !== undefined)
    throw new WeightcastError('WC_CONFIG_INVALID', `engine ${twice.id} is listed twice`);
  return targets;
}

function targetOf(spec: string | EngineSpec, settings: Settings): EngineTarget {
  const { url, ...own } = typeof spec === 'string' ? { url: spec } : spec;
  return parseEngine(url, {
    apiKey: settings.apiKey ?? undefined,
    backend: settings.backend,
    ...own,
    headers: { ...settings.headers, ...own.headers },
  });
}

/** The target as an option, for those who connect by themselves: the guardian, a recovery. */
export function specOf({ url, backend, apiKey, headers, ...rest }: EngineTarget): EngineSpec {
  const { workers, inferenceUrl, parameters, routes } = rest;
  return {
    ...{ url, backend, headers, parameters },
    ...(apiKey === null ? {} : { apiKey }),
    ...(workers === null ? {} : { workers }),
    ...(inferenceUrl === null ? {} : { inferenceUrl }),
    ...(routes === undefined ? {} : { routes }),
  };
}
