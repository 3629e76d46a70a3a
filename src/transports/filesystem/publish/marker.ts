import { join } from 'node:path';
import type { Manifest } from '../manifest.js';
import type { Marker } from '../prime-rl/markers.js';
import { syncFolder, writeNew } from './durable.js';

/** What prime-rl's orchestrator and `weightcast watch` wait for. */
const STABLE: Marker = 'STABLE';

/** The last thing that a version gets; a delta gets none, since no engine can load it. */
export async function mark(step: string, kind: Manifest['kind'], sync: boolean): Promise<void> {
  if (kind === 'delta') return;
  await writeNew(join(step, STABLE), '', sync);
  if (sync) await syncFolder(step);
}
