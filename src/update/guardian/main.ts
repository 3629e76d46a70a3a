/** The guardian's process: waits for the pipe to close, and then recovers what its coordinator left. */
import { createInterface } from 'node:readline';
import { claimEngines } from '../claim/claim.js';
import { openStateDirectory } from '../claim/state-directory.js';
import { targetsOf } from '../fleet-connections.js';
import { recoverEngines } from '../recover.js';
import { resolveSettings } from '../settings.js';
import type { GuardianMessage, GuardMessage } from './message.js';

// A service manager sends these to every process of the service; the coordinator then ends in its own way, and the pipe with it.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
// Nobody may be left to read.
process.stdout.on('error', () => {});

async function takeOver({ id, push, fleet }: GuardMessage): Promise<void> {
  const settings = resolveSettings(fleet);
  if (settings.state === null) return;
  const directory = await openStateDirectory(settings.state);
  // A push that came first does all this itself: then this is refused, and nothing is done.
  const claim = await claimEngines({
    directory,
    engines: targetsOf(settings).map(({ url }) => url),
    role: 'guardian',
    push,
    successorOf: id,
    patienceMs: 0,
  });
  await recoverEngines({ settings, claim });
}

let current: GuardMessage | null = null;
for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line) as GuardianMessage;
  current = message.kind === 'guard' ? message : null;
  if (message.kind === 'guard') process.stdout.write(`${message.id}\n`);
}
if (current !== null) await takeOver(current).catch(() => {});
process.exit(0);
