/** Nothing of one contestant is left for the disk to do while the next one is measured. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** What was written is on the disk: writers are slowed down by what the kernel still holds for it, whoever wrote that. */
export async function settled(): Promise<void> {
  await promisify(execFile)('sync');
}
