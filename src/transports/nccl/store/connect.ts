import { setTimeout as sleep } from 'node:timers/promises';
import { WeightcastError } from '../../../errors.js';
import { Channel, lost } from './channel.js';
import { PREAMBLE } from './protocol.js';
import { encodeRequest } from './request.js';

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
const PAUSE_GROWTH = 1.5;

/** Connects and greets, again and again until the deadline: refused, reset, silent and wrong answers are all tried again. */
export async function connectChannel({ host, port, timeoutMs, signal }: ConnectOptions): Promise<Channel> {
  const deadline = performance.now() + timeoutMs;
  const expiry = AbortSignal.timeout(timeoutMs);
  const stop = signal === undefined ? expiry : AbortSignal.any([signal, expiry]);
  let failure: unknown;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * PAUSE_GROWTH, LONGEST_PAUSE_MS)) {
    try {
      return await greet(await Channel.open(host, port, stop), deadline, stop);
    } catch (error) {
      if (!stop.aborted) failure = error;
    }
    const jitter = 0.5 + Math.random() / 2; // a whole fleet may be waiting for this store
    await sleep(pauseMs * jitter, undefined, { signal: stop }).catch(() => {});
    if (signal?.aborted) {
      throw new WeightcastError('WC_RENDEZVOUS_ABORTED', 'connecting to the store was aborted', {
        phase: 'rendezvous',
        cause: signal.reason,
      });
    }
    if (stop.aborted) {
      throw new WeightcastError('WC_RENDEZVOUS_TIMEOUT', `no store at ${host}:${port} for ${timeoutMs} ms`, {
        phase: 'rendezvous',
        cause: failure,
        details: { host, port },
      });
    }
  }
}

/** VALIDATE and PING in one write: torch's libuv server closes on a VALIDATE that arrives in pieces. */
async function greet(channel: Channel, deadline: number, signal: AbortSignal): Promise<Channel> {
  const nonce = process.pid >>> 0;
  const ping = encodeRequest({ kind: 'ping', nonce });
  try {
    channel.send(Buffer.concat([PREAMBLE, ping]));
    const echo = await channel.receive(4, deadline, signal);
    if (echo === null || echo.readUInt32LE() !== nonce) throw lost('the store did not echo the greeting');
    return channel;
  } catch (error) {
    channel.destroy(error instanceof WeightcastError ? error : lost('greeting failed', error));
    throw error;
  }
}
