/**
 * One process of the crowd: a publisher that prunes after each version, or a reader of each version that it comes to see. From dist/, as users run it.
 *
 *     node --expose-gc process.mjs publish DIR SOURCES FROM UNTIL
 *     node --expose-gc process.mjs read DIR SOURCES            until standard input ends
 *
 * The last line on standard output is what it did, as JSON. Version v is made of source v modulo their number.
 */
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openPublished, prune, publish } from '../../../../dist/index.js';

const [, , role, directory, sources, from, until] = process.argv;
const folders = (await readdir(sources)).sort().map((name) => join(sources, name));

/** A look at this process once in so many rounds. */
const SAMPLE_EVERY = 25;
const samples = [];

function sample(round) {
  if (round % SAMPLE_EVERY !== 0) return;
  globalThis.gc?.();
  samples.push({ round, fds: readdirSync('/proc/self/fd').length, rssBytes: process.memoryUsage.rss() });
}

async function publishAll() {
  let removed = 0;
  const began = performance.now();
  for (let version = Number(from); version < Number(until); version += 1) {
    const source = folders[version % folders.length];
    await publish(source, { directory, version, fsync: false });
    const report = await prune(directory, { keep: 2, graceMs: 0 });
    if (report.failed.length > 0) throw new Error(JSON.stringify(report.failed));
    removed += report.removed.length;
    sample(version);
  }
  return { removed, seconds: (performance.now() - began) / 1000 };
}

const hashOf = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** Every byte once more, by other means: all files are there for as long as the version is open. */
async function readAgain({ path, manifest }) {
  for (const { name, byteLength, headerByteLength, headerSha256, tensors } of manifest.shards) {
    const bytes = await readFile(join(path, name));
    const header = hashOf(bytes.subarray(0, headerByteLength));
    if (bytes.length !== byteLength || header !== headerSha256) throw new Error(`${path}/${name} is torn`);
    for (const { offset, byteLength, sha256, name: tensor } of tensors) {
      if (hashOf(bytes.subarray(offset, offset + byteLength)) !== sha256)
        throw new Error(`${tensor} is torn`);
    }
  }
  for (const { name, sha256 } of manifest.files) {
    if (hashOf(await readFile(join(path, name))) !== sha256) throw new Error(`${path}/${name} is torn`);
  }
}

/** Null once told to end. */
async function nextVersion(atLeast, signal) {
  try {
    return await openPublished(directory, { version: { atLeast }, waitMs: 300_000, signal });
  } catch (error) {
    if (signal.aborted) return null;
    throw error;
  }
}

async function readUntilTold() {
  const told = new AbortController();
  process.stdin.on('end', () => told.abort());
  process.stdin.resume();
  const identities = new Map();
  let reads = 0;
  for (let next = 0; ; reads += 1) {
    const opened = await nextVersion(next, told.signal);
    if (opened === null) break;
    const { version, manifest, lost } = opened;
    if (version < next) throw new Error(`version ${version}, and from ${next} on was asked for`);
    next = version + 1;
    await readAgain(opened);
    if (lost.aborted) throw lost.reason;
    await opened.close();
    // What was published is what the source of that number holds, whole.
    const source = version % folders.length;
    const known = identities.get(source) ?? manifest.digest;
    if (known !== manifest.digest) throw new Error(`version ${version} is ${manifest.digest}, not ${known}`);
    identities.set(source, known);
    sample(reads);
  }
  return { reads };
}

const done = role === 'publish' ? await publishAll() : await readUntilTold();
process.stdout.write(`${JSON.stringify({ ...done, samples })}\n`);
process.exit(0);
