/** vLLM's own receive code (pynccl, packed consumer) on CUDA tensors is the judge of what rank 0 sends. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { writeTinyModel } from '#weightcast/testing/index.js';
import { openCheckpoint } from '#weightcast/weights/checkpoint.js';
import { ncclEnvironment, RankProcess } from '../../bench/gpu/rank/process.js';
import { onGpu } from './support.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
/** Made by bench/gpu/pack.sh out of a vLLM wheel. */
const modules = process.env['WEIGHTCAST_VLLM_MODULES'] ?? join(root, '.gpu/vllm');
const python = process.env['WEIGHTCAST_GPU_PYTHON'] ?? 'python3';
const BUFFER_BYTES = 50_000;

async function digestsOf(path: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const { name, range } of (await openCheckpoint(path)).tensors) {
    if (range.kind !== 'file') throw new Error('a checkpoint lies in files');
    await using file = await open(range.path);
    const bytes = Buffer.alloc(range.byteLength);
    await file.read(bytes, 0, range.byteLength, range.offset);
    digests[name] = createHash('sha256').update(bytes).digest('hex');
  }
  return digests;
}

onGpu('a packed checkpoint reaches vLLM’s own receive code byte for byte', async ({ facts }, context) => {
  if (!existsSync(join(modules, 'packed_tensor.py'))) {
    context.skip(`SKIPPED: no vLLM modules in ${modules}: bench/gpu/pack.sh puts them there`);
    return;
  }
  const folder = await mkdtemp(join(tmpdir(), 'weightcast-gpu-'));
  const sender = new RankProcess(ncclEnvironment(0, 'hosts'));
  const receiver = spawn(python, [join(root, 'test/gpu/vllm_receiver.py'), modules], {
    env: { ...process.env, ...ncclEnvironment(1, 'hosts') },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]();
  try {
    await writeTinyModel(folder, { seed: 7, shards: 2 });
    await sender.call('open', { device: 0 });
    const uniqueId = await sender.call('uniqueId', null);
    const order = { checkpoint: folder, bufferBytes: BUFFER_BYTES };
    const request = {
      unique_id: uniqueId,
      rank: 1,
      world_size: 2,
      library: facts.ncclLibrary,
      buffer_bytes: BUFFER_BYTES,
      tensors: await sender.call('describe', order),
    };
    receiver.stdin.write(`${JSON.stringify(request)}\n`);
    await sender.call('join', { uniqueId, worldSize: 2, rank: 0, timeoutMs: 60_000 });
    const stats = await sender.call('push', { ...order, timeoutMs: 60_000 });
    assert.ok(stats.frames > 1);
    assert.equal((await lines.next()).value, 'joined');
    assert.deepEqual(JSON.parse((await lines.next()).value ?? 'null'), await digestsOf(folder));
  } finally {
    receiver.kill('SIGKILL');
    await sender.kill();
    await rm(folder, { recursive: true, force: true });
  }
});
