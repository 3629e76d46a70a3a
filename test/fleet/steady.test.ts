import { expect, test } from 'vitest';
import type { Exchange, Reply } from '../../src/engines/admin.js';
import type { HttpClient } from '../../src/engines/http.js';
import { WeightcastError } from '../../src/errors.js';
import { dnsSource, urlsOf } from '../../src/fleet/elastic/dns.js';
import { pinnedSource } from '../../src/fleet/elastic/pinned.js';
import type { Membership, MembershipSource } from '../../src/fleet/membership.js';
import { settled } from '../../src/fleet/settle.js';
import { parseDiscover, parseElastic, type SourceOptions, sourcesOf } from '../../src/fleet/specs.js';
import { steady } from '../../src/fleet/steady.js';
import { target } from '../engines/server.js';
import { listJson, workerJson } from './dynamo/recorded.js';

const signal = new AbortController().signal;

/** A resolver that gives these answers one after another, the last one again and again. */
function resolver(...answers: readonly (readonly string[] | string)[]) {
  let at = 0;
  return async (): Promise<readonly string[]> => {
    const answer = answers[Math.min(at++, answers.length - 1)] ?? [];
    if (typeof answer === 'string') throw Object.assign(new Error(answer), { code: answer });
    return answer;
  };
}

const dns = (...answers: readonly (readonly string[] | string)[]) =>
  dnsSource({ hostname: 'engines', port: 8000, toTarget: target, lookup: resolver(...answers) });

const urls = async (source: MembershipSource) =>
  (await source.poll(signal)).members.map((member) => member.target.url);

test('every address of a name is an engine, in an order of its own', async () => {
  expect(await urls(dns(['10.0.0.2', '2001:db8::1', '10.0.0.1', '10.0.0.2']))).toEqual([
    'http://10.0.0.1:8000',
    'http://10.0.0.2:8000',
    'http://[2001:db8::1]:8000',
  ]);
});

test('an address that is mapped, of one link, or of the other family is no second engine', () => {
  const addresses = ['10.0.0.1', '::ffff:10.0.0.1', 'fe80::1%eth0', 'fd00::1'];
  const both = { port: 1, scheme: 'http' };
  expect(urlsOf(addresses, both)).toEqual(['http://10.0.0.1:1', 'http://[fd00::1]:1']);
  expect(urlsOf(addresses, { ...both, family: 4 })).toEqual(['http://10.0.0.1:1']);
  expect(urlsOf(addresses, { ...both, family: 6 })).toEqual(['http://[fd00::1]:1']);
});

test('a failed lookup does not empty the fleet', async () => {
  const source = steady(dns(['10.0.0.1'], 'ENOTFOUND', 'EAI_AGAIN', ['10.0.0.1']), { absences: 2 });
  for (let look = 0; look < 4; look += 1) expect(await urls(source)).toEqual(['http://10.0.0.1:8000']);
});

test('a name that never resolved is an error, which quotes the resolver', async () => {
  const error = await steady(dns('ENOTFOUND'), { absences: 2 })
    .poll(signal)
    .catch((reason: unknown) => reason);
  expect((error as WeightcastError).code).toBe('WC_DISCOVERY_FAILED');
  expect((error as WeightcastError).message).toContain('ENOTFOUND');
});

test('an engine leaves after so many answers without it, and not before', async () => {
  const source = steady(dns(['10.0.0.1', '10.0.0.2'], ['10.0.0.1'], ['10.0.0.2'], ['10.0.0.1']), {
    absences: 3,
  });
  const seen = [];
  for (let look = 0; look < 6; look += 1) seen.push((await urls(source)).length);
  // .2 comes back at the third look, and is then absent three times.
  expect(seen).toEqual([2, 2, 2, 2, 2, 1]);
});

test('a lookup that hangs ends with its signal', async () => {
  const hanging = dnsSource({
    hostname: 'h',
    port: 1,
    toTarget: target,
    lookup: () => new Promise(() => {}),
  });
  const stop = new AbortController();
  const polled = hanging.poll(stop.signal);
  stop.abort(new Error('enough'));
  await expect(polled).rejects.toThrow('enough');
});

test('a lookup that was begun for nobody, and fails, ends no process', async () => {
  const unheard: unknown[] = [];
  const hear = (reason: unknown) => void unheard.push(reason);
  process.on('unhandledRejection', hear);
  try {
    const gone = AbortSignal.abort(new Error('enough'));
    await expect(dns('ENOTFOUND').poll(gone)).rejects.toThrow('enough');
    // Node tells of it when the microtasks of a turn are done.
    await new Promise(setImmediate);
    expect(unheard).toEqual([]);
  } finally {
    process.off('unhandledRejection', hear);
  }
});

const workersAt = (...systemUrls: readonly string[]): MembershipSource => ({
  name: 'dynamo',
  poll: async (): Promise<Membership> => ({
    members: systemUrls.map((url) => ({
      target: target(url, { backend: 'dynamo' }),
      identity: `ns/c/${url}`,
    })),
    unusable: [],
  }),
});

test('each pod is driven through its own worker, by address or by resolved name', async () => {
  const lookup = async (host: string) => (host === 'worker-b' ? ['10.0.0.2'] : [host]);
  const pods = dns(['10.0.0.1', '10.0.0.2']);
  const source = pinnedSource(pods, workersAt('http://worker-b:9090', 'http://10.0.0.1:9090'), lookup);
  const { members } = await settled(source, { worldSize: null, timeoutMs: 5_000, intervalMs: 1, signal });
  expect(members.map((member) => [member.target.inferenceUrl, member.target.url])).toEqual([
    ['http://10.0.0.1:8000', 'http://10.0.0.1:9090'],
    ['http://10.0.0.2:8000', 'http://worker-b:9090'],
  ]);
});

test('a pod without a worker of its own is an error, never the first one', async () => {
  const lookup = async (host: string) => [host];
  const source = pinnedSource(dns(['10.0.0.1', '10.0.0.2']), workersAt('http://10.0.0.1:9090'), lookup);
  const waiting = settled(source, { worldSize: null, timeoutMs: 5_000, intervalMs: 1, signal });
  await expect(waiting).rejects.toThrow(
    "http://10.0.0.2:8000 serves and can't be updated: discovery lists no worker",
  );
});

test('a worker that is in no pod keeps the others from being updated', async () => {
  const source = pinnedSource(dns(['10.0.0.1']), workersAt('http://10.0.0.1:9090', 'http://10.0.0.2:9090'));
  const waiting = settled(source, { worldSize: null, timeoutMs: 5_000, intervalMs: 1, signal });
  await expect(waiting).rejects.toThrow(
    "http://10.0.0.2:9090 serves and can't be updated: no pod has its address",
  );
});

test('a worker whose name does not resolve is an error, and its lookup ends with the signal', async () => {
  const workers = workersAt('http://worker-a:9090');
  const failing = pinnedSource(dns(['10.0.0.1']), workers, async () => {
    throw new Error('EAI_AGAIN');
  });
  await expect(failing.poll(signal)).rejects.toMatchObject({
    code: 'WC_DISCOVERY_FAILED',
    message: expect.stringContaining('http://worker-a:9090: EAI_AGAIN'),
  });
  const stop = new AbortController();
  const hanging = pinnedSource(dns(['10.0.0.1']), workers, () => {
    stop.abort(new Error('enough'));
    return new Promise(() => {});
  });
  await expect(hanging.poll(stop.signal)).rejects.toThrow('enough');
});

const found = (options: Partial<SourceOptions>) =>
  sourcesOf({
    ...{ discover: [], elastic: [], http: {} as HttpClient, headers: {}, apiKey: null },
    ...{ lookup: async () => ['10.0.0.1'], ...options },
  });

test('an address has the backend of those that name none, and what its backend understands', async () => {
  const targets = async (elastic: string, backend?: string) =>
    (await found({ elastic: [elastic], backend })[0]?.source.poll(signal))?.members.map((m) => m.target);
  expect(await targets('engines:8000,broadcast=filesystem', 'prime-rl')).toMatchObject([
    { url: 'http://10.0.0.1:8000', backend: 'prime-rl', parameters: { broadcast: 'filesystem' } },
  ]);
  expect(await targets('engines:8000,backend=dynamo,rpc=prime-rl,workers=2', 'vllm')).toMatchObject([
    { backend: 'dynamo', workers: 2, parameters: { rpc: 'prime-rl' } },
  ]);
  expect(await targets('engines:8000')).toMatchObject([{ backend: 'vllm', parameters: {} }]);
  expect(() => found({ elastic: ['engines:8000,broadcast=nccl'] })).toThrow("unknown 'broadcast'");
});

test('between updates a failed look at a frontend empties nothing; an update is told', async () => {
  const answers = [listJson(workerJson('7')), null];
  const http = {
    exchange: async (_: unknown, { read }: Exchange<unknown>) => {
      const text = answers.length > 1 ? answers.shift() : answers[0];
      if (text == null) throw new WeightcastError('WC_ENGINE_UNREACHABLE', 'gone');
      return read({ status: 200, text } as Reply);
    },
  } as unknown as HttpClient;
  const [dynamo] = found({ discover: ['dynamo=http://fe:8000,rl=http://fe:8001'], http });
  if (dynamo === undefined) throw new Error('no source');
  expect(await urls(dynamo.watched)).toHaveLength(1);
  expect(await urls(dynamo.watched)).toHaveLength(1);
  await expect(dynamo.source.poll(signal)).rejects.toThrow('gone');
});

test('what a user writes after --discover and --elastic is read', () => {
  expect(parseDiscover('dynamo=http://fe:8000/v1,rl=http://fe:9001,workers=2,world_size=8,model=m')).toEqual({
    ...{ url: 'http://fe:8000/v1', rlUrl: 'http://fe:9001', workers: 2, worldSize: 8, model: 'm' },
  });
  expect(parseElastic('engines.svc:8000,backend=prime-rl,family=6,workers=4')).toEqual({
    ...{ hostname: 'engines.svc', port: 8000, scheme: 'http', backend: 'prime-rl', family: 6, workers: 4 },
  });
  expect(parseElastic('[::1]:8000').hostname).toBe('::1');
  expect(parseElastic('e:1,backend=dynamo,discover=http://fe:1,rl_port=9001,vllm=0.30.0')).toMatchObject({
    ...{ discover: 'http://fe:1', rlPort: 9001, parameters: { vllm: '0.30.0' } },
  });
});

test.each([
  ['http://fe:8000', 'not dynamo=URL'],
  ['dynamo=fe:8000', 'not an http'],
  ['dynamo=http://fe:8000,wrold_size=2', "unknown 'wrold_size'"],
  ['dynamo=http://fe:8000,workers=0', 'GPU workers'],
  ['dynamo=http://u:p@fe:8000', 'credentials'],
])('--discover %s is refused', (text, why) => {
  expect(() => parseDiscover(text)).toThrow(why);
});

test.each([
  ['engines', 'not HOST:PORT'],
  ['engines:0', 'no port number'],
  ['engines:8000,family=5', 'family=5'],
  ['engines:8000,scheme=ftp', 'scheme=ftp'],
  ['engines:8000,backend=vlm', "unknown backend 'vlm'"],
  ['engines:8000,backend=vllm,rpc=native', "unknown 'rpc'"],
  ['engines:8000,rl_port=9001', 'rl_port=N is for discover=URL'],
  ['engines:8000,discover=http://fe:8001', 'backend=dynamo'],
])('--elastic %s is refused', (text, why) => {
  expect(() => parseElastic(text)).toThrow(why);
});
