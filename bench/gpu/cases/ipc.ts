/** Another process's device memory, opened by its IPC handle. */
import type { BenchCase } from '../../case.js';
import { median, spread } from '../../harness/statistics.js';
import { RankProcess } from '../rank/process.js';
import { GIB, MIB, setUp } from './setup.js';

const GOAL_MS = 20;

export const ipc: BenchCase = {
  name: 'gpu-ipc',
  about:
    'Opening 16 GB of another process by cudaIpcMemHandle_t: from the call to a buffer that can be sent.',
  async run(context) {
    await setUp(context);
    const byteLength = context.quick ? 64 * MIB : 15 * GIB;
    const owner = new RankProcess();
    try {
      await owner.call('open', { device: 0 });
      const buffer = await owner.call('allocate', { byteLength });
      await owner.call('fill', { buffer, digest: false });
      const handle = await owner.call('ipcHandle', { buffer });
      const expected = await owner.call('digest', { buffer, byteLength: 16 * MIB });
      const times: number[] = [];
      for (let round = 0; round < (context.quick ? 2 : 7); round += 1) {
        const reader = new RankProcess(); // a block that is open already is only counted
        try {
          await reader.call('open', { device: 0 });
          const opened = await reader.call('openIpc', { handle, byteLength });
          if ((await reader.call('digest', { buffer: opened.buffer, byteLength: 16 * MIB })) !== expected) {
            throw new Error('other bytes came through the handle');
          }
          times.push(opened.ms);
        } finally {
          await reader.kill();
        }
      }
      return [
        {
          name: `${(byteLength / 1e9).toFixed(1)} GB opened`,
          unit: 'ms',
          ours: median(times),
          spread: spread(times),
          goal: { text: `≤ ${GOAL_MS} ms`, met: median(times) <= GOAL_MS },
        },
      ];
    } finally {
      await owner.kill();
    }
  },
};
