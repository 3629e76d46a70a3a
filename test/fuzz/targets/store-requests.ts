import { readFileSync } from 'node:fs';
import { Account, type StoreLimits } from '../../../src/transports/nccl/store/limits.js';
import { RequestParser } from '../../../src/transports/nccl/store/parser.js';
import { MalformedRequest, PREAMBLE } from '../../../src/transports/nccl/store/protocol.js';
import { decodeRequest, encodeRequest } from '../../../src/transports/nccl/store/request.js';
import { StoreState } from '../../../src/transports/nccl/store/state.js';
import { expectTrue, type FuzzTarget } from './target.js';

const LIMITS: StoreLimits = {
  keyBytes: 64,
  keysPerRequest: 16,
  valueBytes: 256,
  messageBytes: 1024,
  entries: 32,
  memoryBytes: 16_384,
  connections: 4,
  preambleTimeoutMs: 1000,
};

/** A connection's bytes after the preamble; the first byte of the input says where they are cut. */
export const storeRequests: FuzzTarget = {
  name: 'store-requests',
  seeds: () => {
    const vectors = new URL('../../vectors/tcpstore-vectors.json', import.meta.url);
    const found = readFileSync(vectors, 'utf8').match(/"(?:[0-9a-f]{2}){2,120}"/g) ?? [];
    const hexes = [...new Set(found.map((quoted) => quoted.slice(1, -1)))].slice(0, 150);
    return hexes.map((hex) => Buffer.concat([Uint8Array.of(3), Buffer.from(hex, 'hex')]));
  },
  run: (input) => {
    const stride = (input[0] ?? 0) + 1;
    const bytes = input.subarray(1);
    const whole = serve([bytes]);
    const cut = serve(
      Array.from({ length: Math.ceil(bytes.length / stride) }, (_, i) =>
        bytes.subarray(i * stride, (i + 1) * stride),
      ),
    );
    // How much memory is held depends on how much arrives at once.
    if (whole.refusal === 'memory' || cut.refusal === 'memory') return;
    expectTrue(whole.replies === cut.replies, 'other replies when it arrives in pieces');
    expectTrue(
      whole.refusal === cut.refusal,
      `${whole.refusal}, but ${cut.refusal} when it arrives in pieces`,
    );
  },
};

function serve(chunks: readonly Uint8Array[]): { replies: string; refusal: string | null } {
  const state = new StoreState(LIMITS, '/reserved/');
  const memory = new Account(state.budget);
  const parser = new RequestParser(LIMITS, memory);
  const sent: Uint8Array[] = [];
  const peer = {
    memory,
    reply: (parts: readonly Uint8Array[]) => void sent.push(...parts),
    wake: () => void sent.push(Uint8Array.of(0)),
  };
  let refusal: string | null = null;
  try {
    parser.append(PREAMBLE);
    for (const chunk of chunks) {
      parser.append(chunk);
      for (let next = parser.next(); next !== null; next = parser.next()) {
        const again = JSON.stringify(decodeRequest(encodeRequest(next)), digits);
        expectTrue(again === JSON.stringify(next, digits), 'a request that does not read back');
        state.apply(peer, next);
        expectTrue(state.budget.used <= LIMITS.memoryBytes, 'more memory than is allowed');
        expectTrue(state.contents.size <= LIMITS.entries, 'more entries than are allowed');
      }
    }
  } catch (error) {
    if (!(error instanceof MalformedRequest)) throw error;
    refusal = /memory limit/.test(error.message) ? 'memory' : error.message;
  }
  state.waiters.cancel(peer);
  parser.close();
  let held = 0;
  for (const key of state.contents.keys())
    held += key.length + Math.max(24, state.contents.get(key)!.length) + 256;
  expectTrue(state.budget.used >= held, 'memory was given back that is still held');
  return { replies: Buffer.concat(sent).toString('hex'), refusal };
}

const digits = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? `${value}n` : value);
