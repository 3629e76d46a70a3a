/** A reference engine with the backend `sparse_nccl`, up to its workers: what it takes and refuses, in vLLM's words (0.32.0). */
import { describe, expect, it } from 'vitest';
import { Core } from '../../../src/testing/server/core.js';
import { dispatcher } from '../../../src/testing/server/dispatch.js';
import { profileOf } from '../../../src/testing/server/profile.js';
import { FakeWorkers } from './fake-workers.js';

function engine(weightTransfer: boolean | 'sparse_nccl' = 'sparse_nccl') {
  const workers = new FakeWorkers();
  let died = false;
  const core = new Core(
    {
      profile: profileOf('0.32.0'),
      servedModelName: 'tiny',
      model: '/models/m1',
      weightTransfer,
      tokenMs: 0,
      maxModelLen: 512,
    },
    workers,
    () => {
      died = true;
    },
  );
  const ask = dispatcher(core, { apiKey: null, devMode: true, loraUpdating: true });
  const call = (method: string, path: string, body?: unknown) =>
    ask(
      {
        method,
        path,
        query: new URLSearchParams(),
        contentType: 'application/json',
        authorization: null,
        text: body === undefined ? '' : JSON.stringify(body),
      },
      new AbortController().signal,
    );
  const init_info = { master_address: '127.0.0.1', master_port: 1, rank_offset: 1, world_size: 2 };
  return {
    workers,
    get: (path: string) => call('GET', path),
    post: (path: string, body: unknown = {}) => call('POST', path, body),
    init: () => call('POST', '/init_weight_transfer_engine', { init_info }),
    update: (update_info: unknown) => call('POST', '/update_weights', { update_info }),
    answers: async () =>
      (await call('POST', '/v1/completions', { model: 'tiny', prompt: [5, 6], max_tokens: 1 })).status ===
        200 && !died,
  };
}

const LISTS = { names: ['a', 'b'], dtype_names: ['bfloat16', 'bfloat16'], shapes: [[4], [2, 2]] };

describe('the sparse backend', () => {
  it('takes lists with numbers of updates, and says which backend it is', async () => {
    const { init, post, update, workers, get } = engine();
    await init();
    await post('/start_weight_update');
    expect((await update({ ...LISTS, num_updates_list: [3, 0] })).status).toBe(200);
    expect(workers.calls.at(-1)).toBe('receive a+b');
    expect((await post('/finish_weight_update')).status).toBe(200);
    expect((await get('/server_info')).body).toMatchObject({
      vllm_config: { weight_transfer_config: { backend: 'sparse_nccl' } },
    });
  });

  it.each([
    [{ ...LISTS, num_updates_list: [] }, '`num_updates_list` cannot be empty for sparse updates'],
    [
      { ...LISTS, num_updates_list: [1] },
      '`num_updates_list` should be of the same size as `names`: got 1 and 2',
    ],
    [{ ...LISTS, num_updates_list: [1, -1] }, 'Sparse `num_updates_list` entries must be non-negative'],
    [
      { ...LISTS, shapes: [[4]], num_updates_list: [1, 1] },
      '`shapes` should be of the same size as `names`: got 1 and 2',
    ],
    [
      LISTS,
      "Invalid update_info for SparseNCCLWeightTransferEngine: SparseNCCLWeightTransferUpdateInfo.__init__() missing 1 required positional argument: 'num_updates_list'",
    ],
    [
      { ...LISTS, num_updates_list: [1, 1], packed: true },
      "Invalid update_info for SparseNCCLWeightTransferEngine: SparseNCCLWeightTransferUpdateInfo.__init__() got an unexpected keyword argument 'packed'",
    ],
  ])('refuses %j', async (info, words) => {
    const { init, post, update } = engine();
    await init();
    await post('/start_weight_update');
    const answer = await update(info);
    expect(answer.status).toBe(500);
    expect(JSON.stringify(answer.body)).toContain(words);
  });

  it('strips no layer: an open session, and one that failed, serve on', async () => {
    const { init, post, update, workers, answers } = engine();
    await init();
    await post('/start_weight_update');
    expect(await answers()).toBe(true);
    workers.receiveFails = 'NCCL error: remote process exited';
    expect((await update({ ...LISTS, num_updates_list: [1, 1] })).status).toBe(500);
    expect((await post('/finish_weight_update')).status).toBe(500);
    expect(await answers()).toBe(true);
    expect((await post('/start_weight_update')).status).toBe(200);
    expect((await post('/finish_weight_update')).status).toBe(200);
  });

  it('is not the dense one, which refuses its lists, and neither is there where none is configured', async () => {
    const { init, post, update, get } = engine(true);
    await init();
    await post('/start_weight_update');
    expect(JSON.stringify((await update({ ...LISTS, num_updates_list: [1, 1] })).body)).toContain(
      "NCCLWeightTransferUpdateInfo.__init__() got an unexpected keyword argument 'num_updates_list'",
    );
    expect((await get('/server_info')).body).toMatchObject({
      vllm_config: { weight_transfer_config: { backend: 'nccl' } },
    });
    expect((await engine(false).get('/server_info')).body).toEqual({
      vllm_config: { weight_transfer_config: null },
    });
  });
});
