/** Whether there is a GPU, in a process of its own: a driver that crashes takes nobody along. */
import { RankProcess, type Sharing } from './rank/process.js';
import type { OpenAnswer } from './rank/protocol.js';

export interface Lane {
  readonly facts: OpenAnswer;
  /** How ranks may share the GPU with this libnccl. */
  readonly sharings: readonly Sharing[];
}

/** NCCL_MULTI_RANK_GPU_ENABLE came with 2.30.3. */
const MULTI_RANK_SINCE = 23_003;

/** The lane, or why it can't run here. WEIGHTCAST_GPU_LANE=emulated runs it over the emulator, to test the lane itself. */
export async function openLane(): Promise<Lane | { readonly skipped: string }> {
  const probe = new RankProcess();
  try {
    const facts = await probe.call('open', { device: 0 });
    return {
      facts,
      sharings:
        facts.ncclVersion >= MULTI_RANK_SINCE && !facts.emulated ? ['hosts', 'multi-rank'] : ['hosts'],
    };
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    return { skipped: `no GPU that can be used: ${reason}` };
  } finally {
    await probe.kill();
  }
}
