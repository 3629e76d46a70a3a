/** What is said to servers that receive deltas, and what others answer to it. */
import { describe, expect, it } from 'vitest';
import type { Reply } from '../../../src/engines/admin.js';
import { vllmAdmin } from '../../../src/engines/vllm/admin.js';
import { selectDialect } from '../../../src/engines/vllm-native/dialects.js';

const admin = vllmAdmin(
  { engine: 'http://e', version: '0.32.0', notes: [] },
  selectDialect('0.32.0').dialect,
);
const update = {
  tensors: [
    { name: 'a', dtypeName: 'bfloat16', shape: [4, 2] },
    { name: 'b', dtypeName: 'float32', shape: [] },
  ],
  packing: { bufferBytes: 1, numBuffers: 2 },
};
const reply = (status: number, json: unknown): Reply => ({
  status,
  contentType: 'application/json',
  text: JSON.stringify(json),
  json,
});
const workerFailed = (words: string) => ({
  error: {
    message: `Call to collective_rpc method failed: Worker failed with error '${words}', please check the stack trace above for the root cause`,
    type: 'InternalServerError',
    code: 500,
  },
});

describe('deltas', () => {
  it('are taken in checkpoint coordinates from 0.30 on; 0.25 to 0.28 take those of fused runtime parameters', () => {
    const versions = ['0.24.0', '0.25.1', '0.28.0', '0.29.0', '0.30.0', '0.32.0', '0.33.0', '0.40.0'];
    expect(versions.map((version) => selectDialect(version).dialect.sparse)).toEqual([
      ...[false, false, false, false],
      ...[true, true, true, true],
    ]);
  });

  it('are four lists and nothing of packing, in every version', () => {
    for (const version of ['0.30.0', '0.32.0', '0.33.0']) {
      const of = vllmAdmin({ engine: 'e', version, notes: [] }, selectDialect(version).dialect);
      expect(of.updateWeights({ ...update, updates: [3, 1] }).body).toEqual({
        update_info: {
          names: ['a', 'b'],
          dtype_names: ['bfloat16', 'float32'],
          shapes: [[4, 2], []],
          num_updates_list: [3, 1],
        },
      });
    }
    expect(admin.updateWeights(update).body).toEqual({
      update_info: { names: ['a', 'b'], dtype_names: ['bfloat16', 'float32'], shapes: [[4, 2], []] },
    });
  });

  it('sent to another backend, and whole weights sent to this one, are told apart with what to do', () => {
    const delta = admin.updateWeights({ ...update, updates: [3, 1] });
    const dense = workerFailed(
      "Invalid update_info for NCCLWeightTransferEngine: NCCLWeightTransferUpdateInfo.__init__() got an unexpected keyword argument 'num_updates_list'",
    );
    expect(() => delta.read(reply(500, dense))).toThrow(
      expect.objectContaining({
        code: 'WC_ENGINE_NOT_CONFIGURED',
        remedy: expect.stringContaining('{"backend":"sparse_nccl"}'),
      }),
    );
    const sparse = workerFailed(
      "Invalid update_info for SparseNCCLWeightTransferEngine: SparseNCCLWeightTransferUpdateInfo.__init__() missing 1 required positional argument: 'num_updates_list'",
    );
    expect(() => admin.updateWeights(update).read(reply(500, sparse))).toThrow(
      expect.objectContaining({
        code: 'WC_ENGINE_NOT_CONFIGURED',
        remedy: expect.stringContaining('--delta-from'),
      }),
    );
  });
});

describe('the backend of weight transfer', () => {
  const said = (status: number, json: unknown) => admin.transferBackend!().read(reply(status, json));

  it('is what /server_info says of it', () => {
    const config = (weight_transfer_config: unknown) => ({ vllm_config: { weight_transfer_config } });
    expect(said(200, config({ backend: 'sparse_nccl' }))).toBe('sparse_nccl');
    expect(said(200, config({ backend: 'nccl' }))).toBe('nccl');
    expect(said(200, config(null))).toBe('');
  });

  it.each([
    [500, { error: { message: 'No module named pip' } }],
    [404, { detail: 'Not Found' }],
    [200, null],
    [200, { vllm_config: 'text' }],
    [200, { vllm_config: { weight_transfer_config: { backend: 7 } } }],
  ])('is not known from %s %j', (status, json) => {
    expect(said(status, json)).toBeNull();
  });
});
