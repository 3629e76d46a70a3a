/** The guardian's process: waits for the pipe to close, and then recovers what its coordinator left. */
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../../errors.js';
import { type ClaimRequest, claimEngines } from '../claim/claim.js';
import { inDoubt, parseRecord } from '../claim/record.js';
import { openStateDirectory } from '../claim/state-directory.js';
import { recoverEngines } from '../recover.js';
import { resolveSettings } from '../settings.js';
import { targetsOf } from '../targets.js';
import type { GuardianMessage, GuardMessage } from './message.js';

// A service manager sends these to every process of the service; the coordinator then ends in its own way, and the pipe with it.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
// Nobody may be left to read.
process.stdout.on('error', () => {});

async function takeOver({ id, push, fleet }: GuardMessage): Promise<void> {
  const settings = resolveSettings(fleet);
  if (settings.state === null) return;
  const directory = await openStateDirectory(settings.state);
  const claim = await claimWhenFree(`${directory}/${id}.push`, {
    directory,
    engines: targetsOf(settings).map(({ url }) => url),
    role: 'guardian',
    push,
    successorOf: id,
    patienceMs: 0,
  });
  if (claim === null) return;
  // Its coordinator may have come to an end between the last write and its farewell: then that end stands.
  if (claim.found.some(({ head, left }) => head.id === id && !left))
    await recoverEngines({ settings, claim });
  else await claim.release();
}

const RETRY_MS = 1_000;
const PATIENCE_MS = 30 * 60_000;

/** A push that came first does all this itself, or fails before it has: null when nothing is left to do. */
async function claimWhenFree(record: string, request: ClaimRequest) {
  const began = performance.now();
  for (;;) {
    try {
      return await claimEngines(request);
    } catch (error) {
      if (!hasCode(error, 'WC_UPDATE_BUSY') || performance.now() - began > PATIENCE_MS) throw error;
    }
    const found = parseRecord(await readFile(record, 'utf8').catch(() => ''));
    if (found === null || found.left || !found.engines.some(inDoubt)) return null;
    await sleep(RETRY_MS);
  }
}

let current: GuardMessage | null = null;
for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line) as GuardianMessage;
  current = message.kind === 'guard' ? message : null;
  if (message.kind === 'guard') process.stdout.write(`${message.id}\n`);
}
if (current !== null) await takeOver(current).catch(() => {});
process.exit(0);
