import { expect, test } from 'vitest';
import { difference, readSnapshot } from '../../../src/fleet/dynamo/answer.js';
import { listJson, recorded, workerJson } from './recorded.js';

const LISTENER = 'http://127.0.0.1:8001';
const LOCAL = { listenerHost: '127.0.0.1', workers: null };
const REMOTE = { listenerHost: 'frontend.example', workers: null };

const read = (text: string, expected = LOCAL) => readSnapshot({ text }, LISTENER, expected);
const refusal = (text: string) => {
  try {
    read(text);
  } catch (error) {
    return (error as Error).message;
  }
  return null;
};

test('what the real 1.6.1 lists is read with every digit of its ids, in the order of the ids', () => {
  const { workers, unusable, namespace } = read(recorded('fixed port x2').text);
  expect(namespace).toBe('curator');
  expect(workers.map(({ identity, systemUrl }) => [identity, systemUrl])).toEqual([
    ['curator/stub/1568403898972990830', 'http://127.0.0.1:18302'],
    ['curator/stub/12133735542955933045', 'http://127.0.0.1:18301'],
    ['curator/stub/17051150750297259430', 'http://127.0.0.1:40443'],
  ]);
  expect(unusable).toEqual([
    {
      identity: 'curator/stub/2866882400868227848',
      why: expect.stringContaining('DYN_SYSTEM_PORT') as string,
      dead: false,
    },
  ]);
});

test('the real vLLM worker is listed with its routes, model and world size', () => {
  const [worker] = read(recorded('rl discovery').text).workers;
  expect(worker).toMatchObject({ systemUrl: 'http://127.0.0.1:18091', worldSize: 1, model: 'tiny' });
  expect(worker?.routes).toContain('update_weights_from_distributed');
});

test.each(['killed -9', 'SIGSTOPped'])(
  'a worker that does not answer its frontend (%s) is reported, not used',
  (note) => {
    const { unusable } = read(recorded(note).text);
    expect(unusable.filter(({ dead }) => dead)).toHaveLength(1);
  },
);

test('no workers is an answer', () => {
  expect(read(recorded('rl listener, no workers').text).workers).toEqual([]);
});

test('the order of the answer does not matter, and ids are ordered as numbers', () => {
  const ids = ['18446744073709551615', '9', '12133735542955933045', '100'];
  const order = (list: readonly string[]) =>
    read(
      listJson(...list.map((id, at) => workerJson(id, { system_url: `http://127.0.0.1:${9000 + at}` }))),
    ).workers.map(({ identity }) => identity.split('/')[2]);
  expect(order(ids)).toEqual(['9', '100', '12133735542955933045', '18446744073709551615']);
  expect(order(ids.toReversed())).toEqual(order(ids));
});

test('ids that differ in their last digit alone are two workers', () => {
  const one = workerJson('12133735542955933045', { system_url: 'http://127.0.0.1:1' });
  const two = workerJson('12133735542955933046', { system_url: 'http://127.0.0.1:2' });
  expect(read(listJson(one, two)).workers).toHaveLength(2);
});

test('a worker or an address that is listed twice is refused', () => {
  expect(refusal(listJson(workerJson('7'), workerJson('7')))).toContain('curator/backend/7 is listed twice');
  const url = { system_url: 'http://127.0.0.1:9090' };
  expect(refusal(listJson(workerJson('7', url), workerJson('8', url)))).toContain(
    'http://127.0.0.1:9090 is listed twice',
  );
});

test('protocol_version is 1 or absent', () => {
  expect(read('{"workers":[]}').workers).toEqual([]);
  expect(refusal('{"protocol_version":2,"workers":[]}')).toContain('protocol_version 2');
  expect(refusal('{"protocol_version":"1","workers":[]}')).toContain('protocol_version');
});

test.each([
  ['', 'no JSON'],
  ['[]', 'no list of workers'],
  ['{"workers":{}}', 'no list of workers'],
  ['{"workers":[7]}', 'a worker is no object'],
  [listJson('{"instance_id":1.5,"namespace":"n","component":"c"}'), 'instance_id'],
  [listJson('{"instance_id":-1,"namespace":"n","component":"c"}'), 'instance_id'],
  [listJson('{"instance_id":18446744073709551616,"namespace":"n","component":"c"}'), 'instance_id'],
  [listJson('{"instance_id":"7","namespace":"n","component":"c"}'), 'instance_id'],
  [listJson(workerJson('7', { routes: [7] })), 'routes'],
  [listJson(workerJson('7', { world_size: 0 })), 'world_size'],
  [listJson(workerJson('7', { world_size: '2' })), 'world_size'],
  [listJson(workerJson('7', { model: {} })), 'model'],
])('an answer of another shape is refused: %s', (text, why) => {
  expect(refusal(text)).toContain(why);
});

test('a worker without a world size needs one that is configured', () => {
  const text = listJson(workerJson('7', { world_size: undefined, system_url: 'http://127.0.0.1:1' }));
  expect(read(text).unusable[0]?.why).toContain('workers=N');
  expect(read(text, { ...LOCAL, workers: 4 } as never).workers[0]?.worldSize).toBe(4);
});

test.each([
  ['http://127.0.0.1:9090', 'this machine here'],
  ['http://localhost:9090', 'this machine here'],
  ['http://[::1]:9090', 'this machine here'],
  ['http://0.0.0.0:9090', "nobody's"],
  ['http://[::]:9090', "nobody's"],
  ['http://169.254.1.2:9090', "nobody's"],
  ['http://[::ffff:169.254.169.254]:9090', "nobody's"],
  ['http://[fe80::1]:9090', "nobody's"],
  ['http://239.1.2.3:9090', "nobody's"],
  ['http://user:secret@10.0.0.1:9090', 'user'],
  ['http://10.0.0.1:9090/engine', 'path'],
  ['http://10.0.0.1:9090/?a=b', 'query'],
  ['ftp://10.0.0.1:9090', 'http'],
  ['10.0.0.1:9090', 'http'],
])('the system_url %s is not used', (url, why) => {
  const { workers, unusable } = read(listJson(workerJson('7', { system_url: url })), REMOTE);
  expect(workers).toEqual([]);
  expect(unusable[0]?.why).toContain(why);
  expect(unusable[0]?.dead).toBe(false);
  expect(JSON.stringify(unusable)).not.toContain('secret');
});

test('workers of other machines, and with names, are used', () => {
  const urls = ['http://10.0.0.1:9090', 'https://gpu-7.cluster.local:9090/', 'http://[2001:db8::7]:9090'];
  const { workers } = read(
    listJson(...urls.map((url, at) => workerJson(String(at), { system_url: url }))),
    REMOTE,
  );
  expect(workers.map(({ systemUrl }) => systemUrl)).toEqual([
    'http://10.0.0.1:9090',
    'https://gpu-7.cluster.local:9090',
    'http://[2001:db8::7]:9090',
  ]);
});

test('what two frontends list is compared by all that matters', () => {
  const at = (fields: object) =>
    read(listJson(workerJson('7', { system_url: 'http://127.0.0.1:1', ...fields })));
  expect(difference(at({}), at({ transport: { tcp: 'other' } }))).toBeNull();
  expect(difference(at({}), at({ world_size: 2 }))).toBe('curator/backend/7');
  expect(difference(at({}), read(listJson()))).toBe('curator/backend/7');
});
