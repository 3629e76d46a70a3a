/** The process of a peer: one push, told over the channel of its parent. */
import { runPeer } from './coordinator.js';
import type { FromProcess, ToProcess } from './forked.js';

const interrupted = new AbortController();
const tell = (message: FromProcess): void => {
  process.send?.(message);
};

process.on('message', (message: ToProcess) => {
  if (message.kind === 'interrupt') interrupted.abort();
  else void runPeer(message.job, interrupted.signal).then((end) => tell({ kind: 'end', end }));
});
process.on('disconnect', () => process.exit(0));
tell({ kind: 'ready' });
