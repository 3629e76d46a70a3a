/** The thread of thread.ts: parses one header and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { HeaderError, parseHeader } from '../header.js';
import { runToEnd } from '../yielding.js';
import type { ThreadAnswer, ThreadInput } from './thread.js';

function answer({ header, dataBytes }: ThreadInput): ThreadAnswer {
  try {
    return { kind: 'columns', columns: runToEnd(parseHeader(Buffer.from(header), dataBytes)) };
  } catch (error) {
    if (!(error instanceof HeaderError)) throw error;
    const { message, tensor, facts } = error;
    return { kind: 'invalid', message, tensor, facts };
  }
}

const found = answer(workerData as ThreadInput);
const buffers =
  found.kind === 'columns'
    ? Object.values(found.columns).flatMap((column: unknown) =>
        ArrayBuffer.isView(column) ? [column.buffer] : [],
      )
    : [];
parentPort?.postMessage(found, buffers as ArrayBuffer[]);
