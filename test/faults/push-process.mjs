/** weightcast as a process of its own, which can be killed: plain JavaScript over the compiled product, so that it starts quickly. */
import { connectFleet, UpdateError } from '../../dist/update/index.js';

let session = null;
let stop = null;

async function push({ options, checkpoint, weightVersion }) {
  stop = new AbortController();
  try {
    session ??= await connectFleet(options);
    const report = await session.update(checkpoint, { version: weightVersion, signal: stop.signal });
    return { report };
  } catch (error) {
    if (error instanceof UpdateError) return { report: error.report };
    return { error: { code: error?.code ?? 'UNKNOWN', message: String(error?.message ?? error) } };
  }
}

process.on('message', (message) => {
  switch (message.kind) {
    case 'push':
      void push(message).then((result) => process.send({ kind: 'result', result }));
      break;
    case 'interrupt':
      stop?.abort();
      break;
    case 'close':
      void Promise.resolve(session?.close()).finally(() => process.disconnect());
      break;
  }
});
process.on('disconnect', () => process.exit(0));
process.send({ kind: 'ready' });
