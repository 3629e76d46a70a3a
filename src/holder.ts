/** Who holds a claim, and whether that process still lives. */
import { readFile, readlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { z } from 'zod';

/** A process, so that its number can't be taken for that of a later one. */
export interface Holder {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat: clock ticks from boot to its start; 0 when it could not be read. */
  readonly startTicks: number;
  /** Of the running kernel; containers of one host share it. Empty when it could not be read. */
  readonly bootId: string;
  /** Numbers of one namespace mean nothing in another. Empty when it could not be read. */
  readonly pidNamespace: string;
  /** For messages. */
  readonly host: string;
}

const text = z.string().max(4096);

/** A {@link Holder} in a file that another process wrote. */
export const holderSchema = z.object({
  pid: z.number().int().min(1),
  startTicks: z.number().int().min(0),
  bootId: text,
  pidNamespace: text,
  host: text,
});

/** 'unknown': it can't be seen from here, since it is on another host or in another container. */
export type Life = 'alive' | 'dead' | 'unknown';

export async function thisProcess(): Promise<Holder> {
  const [stat, bootId, pidNamespace] = await Promise.all([
    readFile('/proc/self/stat', 'latin1').catch(() => ''),
    readFile('/proc/sys/kernel/random/boot_id', 'latin1').catch(() => ''),
    readlink('/proc/self/ns/pid').catch(() => ''),
  ]);
  const startTicks = processStat(stat)?.startTicks ?? 0;
  return { pid: process.pid, startTicks, bootId: bootId.trim(), pidNamespace, host: hostname() };
}

/** Whether `holder` lives, as the process `me` can see it. */
export async function lifeOf(holder: Holder, me: Holder): Promise<Life> {
  const sameNumbers =
    me.bootId !== '' && holder.bootId === me.bootId && holder.pidNamespace === me.pidNamespace;
  if (!sameNumbers || holder.startTicks === 0) return 'unknown';
  const stat = processStat(await readFile(`/proc/${holder.pid}/stat`, 'latin1').catch(() => ''));
  if (stat === null) return numberIsTaken(holder.pid) ? 'unknown' : 'dead';
  if (stat.startTicks !== holder.startTicks) return 'dead';
  // A zombie has ended; only its parent has not looked yet.
  return stat.state === 'Z' || stat.state === 'X' ? 'dead' : 'alive';
}

/** Where /proc hides the processes of other users. */
function numberIsTaken(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** State (field 3) and start (field 22); the name, field 2, may hold anything but ends with the last parenthesis. */
export function processStat(text: string): { readonly state: string; readonly startTicks: number } | null {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const startTicks = Number(fields[19]);
  return text.includes(')') && Number.isSafeInteger(startTicks)
    ? { state: fields[0] ?? '', startTicks }
    : null;
}
