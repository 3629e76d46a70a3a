/** The worker process of a reference engine. */
import { Peer } from './peer.js';
import { Worker, type WorkerCall, type WorkerStart } from './worker/worker.js';

let worker: Worker | null = null;

type Call = WorkerCall | { readonly kind: 'start'; readonly options: WorkerStart };

async function serve(call: Call): Promise<unknown> {
  if (call.kind === 'start') {
    worker = await Worker.start(call.options);
    return { vocabulary: worker.vocabulary };
  }
  if (worker === null) {
    throw new Error('the worker was not started');
  }
  return worker.call(call);
}

new Peer<Call>(process, {
  call: serve,
  lost: () => {
    // The engine is gone: leave the group, so that the others notice, and end.
    worker?.interrupt();
    setTimeout(() => process.exit(0), 50);
  },
});
