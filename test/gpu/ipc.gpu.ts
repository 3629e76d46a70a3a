/** Device memory of other processes: of our own addon's, and of PyTorch's caching allocator. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { RankProcess, withRanks } from '../../bench/gpu/rank/process.js';
import { onGpu } from './support.js';

const MIB = 2 ** 20;

onGpu('another process sees the same bytes, and what is written later', async () => {
  const owner = new RankProcess();
  const reader = new RankProcess();
  try {
    await Promise.all([owner, reader].map((rank) => rank.call('open', { device: 0 })));
    const byteLength = 64 * MIB;
    const buffer = await owner.call('allocate', { byteLength });
    const first = await owner.call('fill', { buffer, digest: true });
    const handle = await owner.call('ipcHandle', { buffer });
    const opened = await reader.call('openIpc', { handle, byteLength });
    assert.equal(await reader.call('digest', { buffer: opened.buffer, byteLength }), first);
    const second = await owner.call('fill', { buffer, digest: true });
    assert.notEqual(second, first);
    assert.equal(await reader.call('digest', { buffer: opened.buffer, byteLength }), second);
    await reader.call('free', { buffer: opened.buffer });
  } finally {
    await Promise.all([owner.kill(), reader.kill()]);
  }
});

/** Prints {handle, storageBytes, offset, bytes, sha256} of a CUDA tensor and keeps it until its standard input ends. */
const EXPORT_TENSOR = `
import base64, hashlib, json, sys, torch
from torch.multiprocessing.reductions import reduce_tensor
torch.zeros(3 << 20, dtype=torch.uint8, device="cuda")
tensor = torch.randint(0, 255, (5, 1 << 20), dtype=torch.uint8, device="cuda")[1:]
torch.cuda.synchronize()
_, arguments = reduce_tensor(tensor)
handle, storage_bytes, storage_offset = arguments[7:10]
assert len(handle) in (64, 66), f"not a cudaMalloc block: {len(handle)} bytes"
print(json.dumps({
    "handle": base64.b64encode(handle[-64:]).decode(),
    "offset": storage_offset + arguments[3] * tensor.element_size(),
    "bytes": tensor.numel(),
    "sha256": hashlib.sha256(tensor.cpu().numpy().tobytes()).hexdigest(),
}), flush=True)
sys.stdin.read()
`;

onGpu(
  'a PyTorch tensor is sent from where it lies',
  async (_lane, context) => {
    const hasTorch =
      spawnSync('python3', ['-c', 'import torch; assert torch.cuda.is_available()']).status === 0;
    if (!hasTorch) {
      context.skip('SKIPPED: no PyTorch with CUDA');
      return;
    }
    const python = spawn('python3', ['-c', EXPORT_TENSOR], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      const [line] = (await once(createInterface({ input: python.stdout }), 'line')) as [string];
      const exported = JSON.parse(line) as { handle: string; offset: number; bytes: number; sha256: string };
      await withRanks(2, {}, async ([root, receiver]) => {
        assert.ok(receiver !== undefined);
        const whole = exported.offset + exported.bytes;
        const { buffer, ms } = await root.call('openIpc', { handle: exported.handle, byteLength: whole });
        context.diagnostic(`opened in ${ms.toFixed(1)} ms`);
        const target = await receiver.call('allocate', { byteLength: exported.bytes });
        const [digest] = await Promise.all([
          (async () => {
            const order = {
              byteLength: exported.bytes,
              frameBytes: exported.bytes,
              keep: true,
              timeoutMs: 60_000,
            };
            await receiver.call('receive', { ...order, buffer: target });
            return receiver.call('digest', { buffer: target, byteLength: exported.bytes });
          })(),
          root.call('broadcast', {
            buffer,
            offset: exported.offset,
            byteLength: exported.bytes,
            timeoutMs: 60_000,
          }),
        ]);
        assert.equal(digest, exported.sha256);
      });
    } finally {
      python.stdin.end();
      python.kill('SIGKILL');
    }
  },
  { realOnly: 'PyTorch needs CUDA' },
);
