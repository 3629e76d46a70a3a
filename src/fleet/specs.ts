/** How a user says where engines are to be found, and the sources that look there. */
import type { EngineTarget, HttpClient } from '../engines/http.js';
import {
  backendNames,
  backendParameters,
  parseEngine,
  parseUrl,
  parseWords,
  parseWorkers,
} from '../engines/registry.js';
import { WeightcastError } from '../errors.js';
import { dynamoSource } from './dynamo/source.js';
import { type DnsLookup, dnsSource } from './elastic/dns.js';
import { pinnedSource } from './elastic/pinned.js';
import type { MembershipSource } from './membership.js';
import { DEFAULT_STEADINESS, type Steadiness, steady } from './steady.js';

/** Engines that a frontend of NVIDIA Dynamo lists: 'dynamo=http://frontend:8000'. */
export interface DiscoverSpec {
  /** Base URL of the frontend, or its RL listener. */
  readonly url: string;
  /** The RL listener, where it is elsewhere than on the port `rlPort` of the frontend. */
  readonly rlUrl?: string | undefined;
  /** DYN_RL_PORT. Default 8001. */
  readonly rlPort?: number | undefined;
  /** Base URL of inference, where `url` is the listener. */
  readonly inferenceUrl?: string | undefined;
  /** GPU workers of engines that publish no world_size. */
  readonly workers?: number | undefined;
  /** GPU workers in all that an update waits for. Default: whoever is there. */
  readonly worldSize?: number | undefined;
  /** Only workers of this model. */
  readonly model?: string | undefined;
  /** Whose worker methods receive, `native` or `prime-rl`, and the vLLM inside: see docs/dynamo.md. */
  readonly rpc?: string | undefined;
  readonly vllm?: string | undefined;
}

/** Engines behind the addresses (A and AAAA) of a name: 'engines.svc:8000,backend=prime-rl'. */
export interface ElasticSpec {
  readonly hostname: string;
  readonly port: number;
  /** Default: that of the engines that name none. */
  readonly backend?: string | undefined;
  /** Default 'http'. */
  readonly scheme?: 'http' | 'https' | undefined;
  /** Only these addresses: where a server has one of each kind. Default: both. */
  readonly family?: 4 | 6 | undefined;
  /** GPU workers of each engine. */
  readonly workers?: number | undefined;
  /** GPU workers in all that an update waits for. Default: whoever is there. */
  readonly worldSize?: number | undefined;
  /** For Dynamo: the frontend whose list says which worker each address is. */
  readonly discover?: string | undefined;
  /** DYN_RL_PORT of that frontend. Default 8001. */
  readonly rlPort?: number | undefined;
  /** What only its backend understands: broadcast, pause, rpc, vllm, dialect. */
  readonly parameters?: Readonly<Record<string, string>> | undefined;
}

const DISCOVER_WORDS = ['rl', 'rl_port', 'inference', 'workers', 'world_size', 'model', 'rpc', 'vllm'];
const ELASTIC_WORDS = ['backend', 'scheme', 'family', 'workers', 'world_size', 'discover', 'rl_port'];

/** Reads 'dynamo=URL[,rl=URL][,inference=URL][,workers=N][,world_size=N][,model=NAME][,rpc=…][,vllm=…]'. @throws WeightcastError WC_CONFIG_INVALID */
export function parseDiscover(text: string): DiscoverSpec {
  const [, rest] = /^dynamo=(.*)$/s.exec(text.trim()) ?? [];
  if (rest === undefined) {
    throw invalid(
      `discover: '${text.slice(0, 80)}' is not dynamo=URL: Dynamo's frontends are what can be asked`,
    );
  }
  const [address = '', ...words] = rest.split(',');
  const said = parseWords(words, DISCOVER_WORDS, 'discover');
  return {
    url: parseUrl(address, 'discover'),
    ...(said.rl === undefined ? {} : { rlUrl: parseUrl(said.rl, 'discover') }),
    ...(said.rl_port === undefined ? {} : { rlPort: parsePort(said.rl_port, 'discover: rl_port') }),
    ...(said.inference === undefined ? {} : { inferenceUrl: parseUrl(said.inference, 'discover') }),
    ...sizes(said, 'discover'),
    ...(said.model === undefined ? {} : { model: said.model }),
    ...(said.rpc === undefined ? {} : { rpc: said.rpc }),
    ...(said.vllm === undefined ? {} : { vllm: said.vllm }),
  };
}

/** Reads 'host:port[,backend=NAME][,scheme=https][,family=4][,workers=N][,world_size=N][,discover=URL][,rl_port=N]', and what the backend understands. @throws WeightcastError WC_CONFIG_INVALID */
export function parseElastic(text: string): ElasticSpec {
  const [place = '', ...words] = text.trim().split(',');
  const [, bracketed, plain, port = ''] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/@[\]]+)):(\d+)$/.exec(place) ?? [];
  const hostname = bracketed ?? plain;
  if (hostname === undefined) {
    throw invalid(`elastic: '${place.slice(0, 80)}' is not HOST:PORT, such as engines.svc:8000`);
  }
  const named = words.map((word) => /^\s*backend=(.*\S)/s.exec(word)?.[1]).find((name) => name !== undefined);
  if (named !== undefined && !backendNames.includes(named))
    throw invalid(`elastic: unknown backend '${named.slice(0, 40)}'; known: ${backendNames.join(', ')}`);
  const own = backendParameters(named);
  const said = parseWords(words, [...ELASTIC_WORDS, ...own], 'elastic');
  const { scheme = 'http', family, backend, discover } = said;
  if (scheme !== 'http' && scheme !== 'https')
    throw invalid(`elastic: scheme=${scheme.slice(0, 20)} is not http or https`);
  if (family !== undefined && family !== '4' && family !== '6')
    throw invalid(`elastic: family=${family.slice(0, 20)} is not 4 or 6`);
  if (discover !== undefined && backend !== 'dynamo')
    throw invalid('elastic: discover=URL is for backend=dynamo');
  if (said.rl_port !== undefined && discover === undefined)
    throw invalid('elastic: rl_port=N is for discover=URL');
  const parameters = Object.fromEntries(Object.entries(said).filter(([key]) => own.includes(key)));
  return {
    ...{ hostname, port: parsePort(port, 'elastic: port'), scheme },
    ...(backend === undefined ? {} : { backend }),
    ...(family === undefined ? {} : { family: family === '4' ? 4 : 6 }),
    ...sizes(said, 'elastic'),
    ...(discover === undefined ? {} : { discover: parseUrl(discover, 'elastic') }),
    ...(said.rl_port === undefined ? {} : { rlPort: parsePort(said.rl_port, 'elastic: rl_port') }),
    ...(Object.keys(parameters).length === 0 ? {} : { parameters }),
  };
}

function sizes(said: Readonly<Record<string, string>>, what: string) {
  const { workers, world_size: world } = said;
  return {
    ...(workers === undefined ? {} : { workers: parseWorkers(workers, what) }),
    ...(world === undefined ? {} : { worldSize: parseWorkers(world, what, 'world_size') }),
  };
}

function parsePort(text: string, what: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > 65_535)
    throw invalid(`${what} ${text.slice(0, 20)} is no port number`);
  return port;
}

/** A source, and how many GPU workers it must name. */
export interface Found {
  readonly source: MembershipSource;
  /** The same for looks between updates: one failed look, or one answer without them, empties nothing. */
  readonly watched: MembershipSource;
  readonly worldSize: number | null;
}

export interface SourceOptions {
  readonly discover: readonly (string | DiscoverSpec)[];
  readonly elastic: readonly (string | ElasticSpec)[];
  /** Of the discovery's own calls. */
  readonly http: HttpClient;
  readonly headers: Readonly<Record<string, string>>;
  readonly apiKey: string | null;
  /** Of addresses whose backend is not named. Default 'vllm'. */
  readonly backend?: string | undefined;
  readonly steadiness?: Partial<Steadiness> | undefined;
  /** Default: the system's resolver. */
  readonly lookup?: DnsLookup | undefined;
}

/** The sources for what a user says; frontends of one Dynamo deployment are one source. @throws WeightcastError WC_CONFIG_INVALID */
export function sourcesOf(options: SourceOptions): Found[] {
  const frontends = options.discover.map((spec) => (typeof spec === 'string' ? parseDiscover(spec) : spec));
  const names = options.elastic.map((spec) => (typeof spec === 'string' ? parseElastic(spec) : spec));
  const steadiness = { ...DEFAULT_STEADINESS, ...options.steadiness };
  const found = names.map((spec): Found => {
    const source = steady(elasticSource(spec, options), steadiness);
    return { source, watched: source, worldSize: spec.worldSize ?? null };
  });
  const [first] = frontends;
  if (first === undefined) return found;
  const size = frontends.find(({ worldSize }) => worldSize !== undefined)?.worldSize ?? null;
  const source = dynamoOf(frontends, options);
  return [{ source, watched: steady(source, steadiness), worldSize: size }, ...found];
}

function dynamoOf(
  specs: readonly DiscoverSpec[],
  { http, headers, apiKey }: SourceOptions,
  parameters: Readonly<Record<string, string>> = {},
) {
  const said = <K extends keyof DiscoverSpec>(key: K) => specs.find((spec) => spec[key] !== undefined)?.[key];
  const [rpc, vllm] = [said('rpc'), said('vllm')];
  return dynamoSource({
    parameters: {
      ...parameters,
      ...(rpc === undefined ? {} : { rpc }),
      ...(vllm === undefined ? {} : { vllm }),
    },
    ...{ http, headers, apiKey, rlPort: said('rlPort'), workers: said('workers'), model: said('model') },
    frontends: specs.map(({ url, rlUrl, inferenceUrl }) => ({
      url,
      rlUrl: rlUrl ?? null,
      inferenceUrl: inferenceUrl ?? null,
    })),
  });
}

function elasticSource(spec: ElasticSpec, options: SourceOptions): MembershipSource {
  const { headers, apiKey, lookup } = options;
  const { hostname, port, scheme, family, workers, parameters, backend = options.backend } = spec;
  const toTarget = (url: string): EngineTarget =>
    parseEngine(url, { backend, headers, apiKey: apiKey ?? undefined, workers, parameters });
  // What can't be is said before anybody is looked up.
  toTarget('http://0.0.0.0');
  const dns = dnsSource({ hostname, port, scheme, family, toTarget, lookup });
  if (spec.discover === undefined) return dns;
  const { rlPort } = spec;
  const { model, ...more } = parameters ?? {};
  return pinnedSource(dns, dynamoOf([{ url: spec.discover, workers, rlPort, model }], options, more), lookup);
}

function invalid(message: string): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', message);
}
