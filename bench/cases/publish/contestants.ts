/** Who writes the bytes of a checkpoint into a folder: publish(), a plain C program, plain Node, and the reference library. */
import { execFile } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { publish } from '#weightcast/transports/filesystem/publish/index.js';
import type { PythonEnvironment, PythonPackages } from '../../../test/peers/support/venv.js';
import { repository } from '../../harness/compile.js';

export const referencePackages: PythonPackages = {
  name: 'safetensors-numpy',
  install: ['safetensors==0.8.0', 'numpy==2.2.6'],
  override: [],
};

/** What one writing took. */
export interface Writing {
  /** Where the shards lie. */
  readonly folder: string;
  readonly seconds: number;
  /** Seconds of CPU time, where it was measured. */
  readonly cpu?: number;
}

export interface Order {
  /** A folder that is there and empty. */
  readonly into: string;
  readonly sync: boolean;
  readonly signal: AbortSignal;
}

/** Each source shard with its place in a folder. */
const pairs = (shards: readonly string[], into: string): string[][] =>
  shards.map((source) => [source, join(into, basename(source))]);

export const withPublish =
  (source: string, shardBytes: number, digests: boolean) =>
  async ({ into, sync, signal }: Order): Promise<Writing> => {
    const began = performance.now();
    const before = process.cpuUsage();
    const { path } = await publish(source, {
      ...{ directory: into, version: 1, digests, fsync: sync, shardBytes, signal },
    });
    const { user, system } = process.cpuUsage(before);
    return { folder: path, seconds: (performance.now() - began) / 1e3, cpu: (user + system) / 1e6 };
  };

export const withPlainC =
  (program: string, shards: readonly string[]) =>
  async ({ into, sync, signal }: Order): Promise<Writing> => {
    const args = [String(availableParallelism()), sync ? '1' : '0', ...pairs(shards, into).flat()];
    const { stdout } = await promisify(execFile)(program, args, { signal });
    const [seconds = Number.NaN, cpu = Number.NaN] = stdout.split(' ').map(Number);
    return { folder: into, seconds, cpu };
  };

/** What one writes in a hurry: a stream into a stream, all shards at a time. */
export const withPlainNode =
  (shards: readonly string[]) =>
  async ({ into, sync, signal }: Order): Promise<Writing> => {
    const began = performance.now();
    await Promise.all(
      pairs(shards, into).map(async ([source = '', target = '']) => {
        await pipeline(createReadStream(source), createWriteStream(target, { flags: 'wx' }), { signal });
        if (!sync) return;
        await using file = await open(target, 'r+');
        await file.datasync();
      }),
    );
    return { folder: into, seconds: (performance.now() - began) / 1e3 };
  };

export const withReference =
  (
    { python }: PythonEnvironment,
    shards: readonly string[],
    version: (of: string, version: string) => void,
  ) =>
  async ({ into, sync, signal }: Order): Promise<Writing> => {
    const args = [join(repository, 'bench/peers/save_file.py'), sync ? '1' : '0'];
    const { stdout } = await promisify(execFile)(python, [...args, ...pairs(shards, into).flat()], {
      signal,
    });
    const said = JSON.parse(stdout) as { readonly seconds: number; readonly version: string };
    version('safetensors', said.version);
    return { folder: into, seconds: said.seconds };
  };
