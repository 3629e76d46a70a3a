/** A lease: the file by which a reader says that it reads a version, so that retention leaves it alone. */
import { open, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { WeightcastError } from '../../../errors.js';
import { unlessStalled } from '../../../waits.js';
import { newNonce } from '../layout.js';
import { errnoNameOf, makeFolder, writeError } from '../publish/durable.js';
import { LEASE_TTL_MS, leaseFolder, leaseName } from './place.js';

/** What no right to write helps against. */
const OF_THE_DISK: ReadonlySet<string | null> = new Set(['ENOSPC', 'EDQUOT', 'EIO']);

export interface LeaseOptions {
  /** Milliseconds; default {@link LEASE_TTL_MS}. */
  readonly ttlMs?: number | undefined;
  /** Whether what is held is still there: asked when retention may have looked while the lease was dead. */
  readonly stillThere: () => Promise<boolean>;
}

/** Made by {@link takeLease}. */
export class Lease implements AsyncDisposable {
  readonly #folder: string;
  readonly #version: number;
  readonly #ttlMs: number;
  readonly #stillThere: () => Promise<boolean>;
  readonly #lost = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #path: string;
  /** When the last renewal that succeeded was begun, by this process's clock: prune sees no earlier one. */
  #renewedMs: number;
  #renewing: Promise<void> | null = null;

  constructor(
    held: { folder: string; version: number; path: string; takenMs: number },
    options: LeaseOptions,
  ) {
    this.#folder = held.folder;
    this.#version = held.version;
    this.#path = held.path;
    this.#renewedMs = held.takenMs;
    this.#ttlMs = options.ttlMs ?? LEASE_TTL_MS;
    this.#stillThere = options.stillThere;
    this.#timer = setInterval(() => this.#tick(), this.#ttlMs / 3).unref();
  }

  /** Aborts when the version may have been removed: the lease could not be renewed in time, or what it held is gone. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  #tick(): void {
    this.#renewing ??= this.#renew().finally(() => {
      this.#renewing = null;
    });
  }

  async #renew(): Promise<void> {
    const beganMs = performance.now();
    try {
      const refreshed = await this.#refresh();
      const unbroken = refreshed && beganMs - this.#renewedMs < this.#ttlMs;
      this.#renewedMs = beganMs;
      if (unbroken || (await this.#stillThere())) return;
      this.#lose(`step_${this.#version} was removed while its lease was not renewed`);
    } catch (error) {
      if (performance.now() - this.#renewedMs < this.#ttlMs) return;
      this.#lose(
        `the lease of step_${this.#version} could not be renewed: ${(error as Error).message}`,
        error,
      );
    }
  }

  /** @returns false when somebody had swept the file: it lies there anew */
  async #refresh(): Promise<boolean> {
    try {
      // Written, not utimes: the time must be that of the file system's clock, by which prune looks.
      await writeLease(this.#path, 'r+');
      return true;
    } catch (error) {
      // Object-store mounts overwrite nothing: another one takes its place. Also where it was swept.
      const path = join(this.#folder, leaseName(this.#version, newNonce()));
      await writeLease(path, 'wx').catch(async (cause: unknown) => {
        await rm(path, { force: true }).catch(() => undefined);
        throw cause;
      });
      await rm(this.#path, { force: true }).catch(() => undefined);
      this.#path = path;
      return (error as NodeJS.ErrnoException).code !== 'ENOENT';
    }
  }

  #lose(message: string, cause?: unknown): void {
    clearInterval(this.#timer);
    const remedy = 'What was read from it until now may be incomplete: open a version again.';
    this.#lost.abort(new WeightcastError('WC_VERSION_NOT_FOUND', message, { cause, remedy }));
  }

  /** Lets the version go. Safe to call twice; what can't be removed is dead after the time to live. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    const letGo = async () => {
      await this.#renewing;
      await rm(this.#path, { force: true });
    };
    // Nobody waits for a file system that hangs.
    await unlessStalled(letGo(), (why) => new Error(why)).catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Takes a lease on a version. The order is the protocol: take the lease, then read the manifest; prune renames, then looks for leases again.
 *
 * @throws WeightcastError WC_FILE_WRITE where the directory can't be written to
 */
export async function takeLease(directory: string, version: number, options: LeaseOptions): Promise<Lease> {
  const folder = leaseFolder(directory);
  const path = join(folder, leaseName(version, newNonce()));
  const takenMs = performance.now();
  try {
    await writeLease(path, 'wx').catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      await makeFolder(folder, false);
      await writeLease(path, 'wx');
    });
  } catch (cause) {
    await rm(path, { force: true }).catch(() => undefined);
    const remedy = `Let this user write to ${folder}, or read without a lease where no retention runs.`;
    throw writeError(path, cause, OF_THE_DISK.has(errnoNameOf(cause)) ? undefined : remedy);
  }
  return new Lease({ folder, version, path, takenMs }, options);
}

async function writeLease(path: string, flags: 'r+' | 'wx'): Promise<void> {
  await using file = await open(path, flags);
  const holder = { host: hostname(), pid: process.pid, created: new Date().toISOString() };
  await file.writeFile(`${JSON.stringify(holder)}\n`);
}
