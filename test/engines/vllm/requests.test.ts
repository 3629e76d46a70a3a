/** What we send, held against what the real server of that version took. */
import { describe, expect, it } from 'vitest';
import type { Exchange, GroupSeat, PauseMode } from '../../../src/engines/admin.js';
import { type VllmAdmin, vllmAdmin } from '../../../src/engines/vllm/admin.js';
import { selectDialect } from '../../../src/engines/vllm-native/dialects.js';
import { WeightcastError } from '../../../src/errors.js';
import {
  isCut,
  type Recorded,
  recorded,
  replyOf,
  VERSIONS,
  type Version,
  wasAccepted,
} from './recordings.js';

function adminOf(version: string): VllmAdmin {
  const { dialect, notes } = selectDialect(version);
  return vllmAdmin({ engine: 'http://e', version, notes }, dialect);
}

const sortedQuery = (query: string) => Object.fromEntries([...new URLSearchParams(query)].sort());

/** Recorded requests of the same line that the server took. */
function accepted(version: Version, exchange: Exchange<unknown>): readonly Recorded[] {
  return recorded(version).filter(
    (entry) =>
      wasAccepted(entry) &&
      entry.method === exchange.method &&
      entry.path === exchange.path &&
      JSON.stringify(sortedQuery(entry.query)) ===
        JSON.stringify(sortedQuery(new URLSearchParams(exchange.query).toString())),
  );
}

/** The recorded answers to exactly this request: line and body. */
function answersTo(version: Version, exchange: Exchange<unknown>): readonly Recorded[] {
  return accepted(version, exchange).filter((entry) => {
    try {
      expect(entry.body).toEqual(exchange.body);
      return true;
    } catch {
      return false;
    }
  });
}

/** Reads the first recorded success; fails when the real server never took this request. */
function replay<T>(version: Version, exchange: Exchange<T>): T {
  const answer = answersTo(version, exchange).find((entry) => entry.status === 200 && !isCut(entry));
  if (answer === undefined) {
    return expect.unreachable(
      `${version} never took ${exchange.method} ${exchange.path} ${JSON.stringify(exchange.body)}`,
    );
  }
  return exchange.read(replyOf(answer));
}

const since = (minor: number) => VERSIONS.filter((version) => Number(version.split('.')[1]) >= minor);
const before = (minor: number) => VERSIONS.filter((version) => Number(version.split('.')[1]) < minor);

describe.each(VERSIONS)('vLLM %s took', (version) => {
  const admin = adminOf(version);

  it('the probes', () => {
    expect(replay(version, admin.health())).toBeUndefined();
    expect(replay(version, admin.worldSize())).toBe(1);
    expect(replay(version, admin.isPaused())).toBe(false);
    expect(replay(version, admin.listModels())).toContainEqual({
      id: 'tiny',
      root: '/models/m1',
      parent: null,
    });
  });

  it('every pause mode, with clear_cache said, and resume', () => {
    for (const mode of ['abort', 'wait', 'keep'] satisfies PauseMode[]) {
      for (const clearCache of [true, false]) {
        const exchange = admin.pause({ mode, clearCache });
        expect(exchange.body).toBeNull();
        expect(exchange.query).toEqual({ mode, clear_cache: String(clearCache) });
        expect(replay(version, exchange)).toBeUndefined();
      }
    }
    expect(replay(version, admin.resume())).toBeUndefined();
  });

  it('a reload from disk', () => {
    expect(replay(version, admin.reloadFromDisk('/models/m2'))).toBe(1);
  });

  it('a cache reset, and says what it said of it', () => {
    const said = since(26).includes(version) ? true : null;
    expect(replay(version, admin.resetPrefixCache({ resetRunningRequests: false }))).toBe(said);
    expect(replay(version, admin.resetPrefixCache({ resetRunningRequests: true }))).toBe(said);
  });

  it('a prompt to score, field by field, and gives one log-probability a token after the first', () => {
    const tokens = [5, 17, 40, 99, 123, 7, 200, 31];
    const exchange = admin.scorePrompt({ model: 'tiny', tokens });
    const full = accepted(version, exchange).find(
      (entry) =>
        !isCut(entry) &&
        entry.status === 200 &&
        (entry.body as { prompt_logprobs?: number }).prompt_logprobs === 0,
    );
    expect({ ...(full?.body as object), max_tokens: 1 }).toMatchObject(exchange.body as object);
    const scores = exchange.read(replyOf(full!));
    expect(scores).toHaveLength(tokens.length - 1);
    expect(scores.every((score) => score < 0)).toBe(true);
  });

  it('only JSON bodies that were declared as JSON', () => {
    const withBody = [admin.reloadFromDisk('/models/m2'), admin.scorePrompt({ model: 'tiny', tokens: [5] })];
    for (const exchange of withBody) {
      for (const entry of accepted(version, exchange)) {
        expect(entry.headers['Content-Type']).toBe('application/json');
      }
    }
  });
});

describe.each(since(27))('vLLM %s took', (version) => {
  const admin = adminOf(version);

  it('the weight version, set and read back', () => {
    expect(replay(version, admin.setWeightVersion('v7')!)).toBeUndefined();
    expect(replay(version, admin.weightVersion()!)).toMatch(/^(default|v7)$/);
  });

  it('the weight version at finish', () => {
    const exchange = admin.finishUpdate({ weightVersion: version === '0.32.0' ? 'v1' : 'v42' })!;
    expect(answersTo(version, exchange).length).toBeGreaterThan(0);
  });
});

describe.each(since(24))('vLLM %s took', (version) => {
  it('start and finish, and answered with a message', () => {
    const admin = adminOf(version);
    expect(replay(version, admin.startUpdate()!)).toBeUndefined();
    expect(replay(version, admin.finishUpdate({ weightVersion: null })!)).toBeUndefined();
  });
});

it('vLLM 0.22.1 understood the start body', () => {
  expect(answersTo('0.22.1', adminOf('0.22.1').startUpdate()!).length).toBeGreaterThan(0);
});

describe.each(before(21))('vLLM %s', (version) => {
  it('has no start, no finish, no weight version, no checker and no shutdown', () => {
    const admin = adminOf(version);
    const absent = [
      admin.startUpdate(),
      admin.finishUpdate({ weightVersion: 'v1' }),
      admin.weightVersion(),
      admin.setWeightVersion('v1'),
      admin.checksums(),
      admin.shutdownBroadcaster(),
    ];
    expect(absent).toEqual([null, null, null, null, null, null]);
  });
});

it.each(['0.22.1', '0.24.0'])('vLLM %s gets no weight version at finish, since it has none', (version) => {
  expect(adminOf(version).finishUpdate({ weightVersion: 'v1' })?.body).toEqual({});
});

describe.each(since(28))('vLLM %s took', (version) => {
  it('an adapter loaded and unloaded by name, and answered in plain text', () => {
    const admin = adminOf(version);
    expect(replay(version, admin.loadLoraAdapter({ name: 'p1', path: '/models/lora1' }))).toBeUndefined();
    expect(replay(version, admin.unloadLoraAdapter({ name: 'p1' }))).toBeUndefined();
  });
});

describe.each(since(32))('vLLM %s took', (version) => {
  it('the shutdown of the transfer engine', () => {
    expect(replay(version, adminOf(version).shutdownBroadcaster()!)).toBeUndefined();
  });

  it('a checksum request, and never a reset', () => {
    const exchange = adminOf(version).checksums()!;
    expect(exchange.body).toEqual({ action: 'checksum' });
    expect(answersTo(version, exchange).some((entry) => entry.status === 200)).toBe(true);
  });

  it('checksums whose whole list it then got back as a baseline: that list is read', () => {
    const compare = recorded(version).find(
      (entry) =>
        entry.path === '/weight_checker' &&
        (entry.body as { action?: string }).action === 'compare' &&
        entry.status === 200,
    );
    const { baseline } = compare!.body as { baseline: Record<string, string> };
    const text = JSON.stringify({ checksums: baseline });
    const sums = adminOf(version)
      .checksums()!
      .read({ status: 200, contentType: null, text, json: JSON.parse(text) });
    expect([...sums.keys()]).toEqual(['dp0:pp0:pcp0:tp0']);
    const parameters = sums.get('dp0:pp0:pcp0:tp0')!;
    expect(parameters.size).toBe(Object.keys(baseline).length);
    expect(parameters.get('lm_head.weight')).toBe(baseline['dp0:pp0:pcp0:tp0:lm_head.weight']);
  });
});

/**
 * init and update: the servers had no GPU, so what they understood counts. Where a version says nothing (0.16: every failure is one text; 0.22.1: it
 * looks for an open session first), its neighbour of the same dialect speaks for it.
 */
const SPEAKER: Readonly<Partial<Record<Version, Version>>> = { '0.16.0': '0.18.1', '0.22.1': '0.24.0' };

/** Fields that no recording holds, because only a receive shows them: contracts/vllm.md 1.2, 1.5; test/peers runs them. */
const UNRECORDED = {
  init: ['packed', 'packed_buffer_size_bytes', 'packed_num_buffers'],
  update: ['is_checkpoint_format'],
};

type Info = Readonly<Record<string, unknown>>;

function understood(version: Version, path: string, key: string): readonly Info[] {
  return recorded(SPEAKER[version] ?? version)
    .filter((entry) => entry.path === path && wasAccepted(entry))
    .map((entry) => (entry.body as Record<string, Info> | null)?.[key])
    .filter((info): info is Info => info !== undefined);
}

const without = (info: Info, names: readonly string[]) =>
  Object.fromEntries(Object.entries(info).filter(([name]) => !names.includes(name)));

const SEAT: Omit<GroupSeat, 'timeoutMs' | 'fleet'> = {
  rankOffset: 1,
  worldSize: 2,
  masterAddress: '127.0.0.1',
  masterPort: 29500,
  uniqueId: null,
  packing: null,
};
const PACKING = { bufferBytes: 1024, numBuffers: 1 };
const NORM = { name: 'model.norm.weight', dtypeName: 'float32', shape: [64] };

describe.each(VERSIONS)('vLLM %s understood', (version) => {
  const admin = adminOf(version);
  const inInit = since(28).includes(version);
  const initInfo = (seat: Omit<GroupSeat, 'timeoutMs' | 'fleet'>) =>
    (admin.initBroadcaster(seat).body as { init_info: Info }).init_info;
  const updateInfo = (packing: typeof PACKING | null) =>
    (admin.updateWeights({ tensors: [NORM], packing }).body as { update_info: Info }).update_info;

  it('init_info with the address of the store', () => {
    const known = understood(version, '/init_weight_transfer_engine', 'init_info').find(
      (info) => 'master_port' in info,
    );
    const ours = initInfo({ ...SEAT, masterPort: known?.master_port as number });
    expect(without(ours, UNRECORDED.init)).toEqual(known);
    expect(Object.keys(ours).filter((name) => UNRECORDED.init.includes(name))).toEqual(
      inInit ? ['packed'] : [],
    );
  });

  it('update_info, with nothing beside it that this version does not know', () => {
    const known = understood(version, '/update_weights', 'update_info');
    expect(known.length).toBeGreaterThan(0);
    const names = new Set(known.flatMap((info) => Object.keys(info)));
    for (const info of [updateInfo(null), updateInfo(PACKING)]) {
      const ours = without(info, UNRECORDED.update);
      expect(known).toContainEqual(
        without(ours, ['packed', 'packed_buffer_size_bytes', 'packed_num_buffers']),
      );
      expect(Object.keys(ours).filter((name) => !names.has(name))).toEqual([]);
    }
    expect('is_checkpoint_format' in updateInfo(null)).toBe(before(21).includes(version));
  });

  it('the packing, in the one of the two that has it', () => {
    const fields = { packed: true, packed_buffer_size_bytes: 1024, packed_num_buffers: 1 };
    expect(
      without(initInfo({ ...SEAT, packing: PACKING }), [
        'master_address',
        'master_port',
        'rank_offset',
        'world_size',
      ]),
    ).toEqual(inInit ? fields : {});
    expect(without(updateInfo(PACKING), ['names', 'dtype_names', 'shapes', 'is_checkpoint_format'])).toEqual(
      inInit ? {} : fields,
    );
    expect((inInit ? initInfo(SEAT) : updateInfo(null)).packed).toBe(false);
  });
});

describe.each(since(30))('vLLM %s understood', (version) => {
  it('the unique id in place of the address', () => {
    const uniqueId = new Uint8Array(128);
    const { init_info } = adminOf(version).initBroadcaster({ ...SEAT, uniqueId }).body as { init_info: Info };
    const known = understood(version, '/init_weight_transfer_engine', 'init_info');
    expect(known).toContainEqual(without(init_info, UNRECORDED.init));
    expect(init_info.nccl_unique_id_b64).toHaveLength(172);
    expect(init_info).not.toHaveProperty('master_address');
  });
});

describe('what is never sent', () => {
  it.each(VERSIONS)('to %s: an empty list', (version) => {
    expect(() => adminOf(version).updateWeights({ tensors: [], packing: null })).toThrowError(
      expect.objectContaining({ code: 'WC_CONFIG_INVALID' }),
    );
  });

  it.each(before(30))('to %s: a unique id that it does not take', (version) => {
    expect(() => adminOf(version).initBroadcaster({ ...SEAT, uniqueId: new Uint8Array(128) })).toThrow(
      WeightcastError,
    );
  });

  it('a unique id of another size than 128 bytes', () => {
    expect(() => adminOf('0.33.0').initBroadcaster({ ...SEAT, uniqueId: new Uint8Array(100) })).toThrow(
      WeightcastError,
    );
  });
});

describe('at most once', () => {
  it.each(VERSIONS)(
    'holds on %s for whatever opens, receives or closes an update, and for adapters',
    (version) => {
      const admin = adminOf(version);
      const once = [
        admin.initBroadcaster(SEAT),
        admin.startUpdate(),
        admin.updateWeights({ tensors: [NORM], packing: null }),
        admin.finishUpdate({ weightVersion: null }),
        admin.loadLoraAdapter({ name: 'a', path: '/a' }),
        admin.unloadLoraAdapter({ name: 'a' }),
      ];
      expect(once.filter((exchange) => exchange?.retryable === true)).toEqual([]);
      const again = [
        admin.health(),
        admin.isPaused(),
        admin.worldSize(),
        admin.listModels(),
        admin.pause({ mode: 'keep', clearCache: true }),
        admin.resume(),
        admin.reloadFromDisk('/m'),
        admin.resetPrefixCache({ resetRunningRequests: false }),
      ];
      expect(again.filter((exchange) => !exchange.retryable)).toEqual([]);
    },
  );
});
