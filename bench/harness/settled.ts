/** Nothing of one contestant is left for the disk to do while the next one is measured. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** What was written is on the disk: writers are slowed down by what the kernel still holds for it, whoever wrote that. */
export async function settled(): Promise<void> {
  await promisify(execFile)('sync');
}

/**
 * So many bytes of memory are at hand for whoever writes files next: a virtual machine gives its free memory back, and a page's first touch after that costs several times what
 * copying it does, which the contestants before would have paid for some and not for others.
 */
export async function memoryAtHand(byteLength: number): Promise<void> {
  await promisify(execFile)(process.execPath, ['-e', `Buffer.alloc(${byteLength}, 1)`]);
}
