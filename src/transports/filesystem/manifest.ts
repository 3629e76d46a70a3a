/**
 * The manifest of a published version: what it is, and the size and digest of every byte of it. Written last and never changed, so whoever finds one has a
 * whole version; nothing else in the folder is believed. This is the one place that writes and reads it.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { hasCode, WeightcastError } from '../../errors.js';
import { DTYPES } from '../../weights/dtype.js';
import { JsonError } from '../../weights/json.js';
import { parseJsonValue } from '../../weights/json-value.js';
import { runInSlices, type Steps } from '../../weights/yielding.js';
import { isVersion, MANIFEST_NAME } from './layout.js';
import { checkManifest, ManifestError } from './manifest-check.js';
import type { Manifest, ManifestShard, ManifestTensor, PlacedTensor } from './manifest-types.js';

export * from './manifest-types.js';

export const MAX_MANIFEST_BYTES = 64 * 2 ** 20;

const FORMAT = 'weightcast-manifest';
const FORMAT_VERSION = 1;
const LIMITS = { depth: 8, values: 8_000_000, stringBytes: 1 << 16 };
const TENSORS_PER_STEP = 64;
/** A link would lead anywhere, and opening a pipe waits for its writer. */
const READ_NO_OTHER = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

const size = z.number().refine(isVersion);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const text = z.string().min(1).max(255);

const tensorSchema = z.object({
  name: z.string().min(1).max(LIMITS.stringBytes),
  dtype: z.string().refine((name) => DTYPES.has(name)),
  shape: z.array(size).max(64),
  size,
  sha256: sha256.nullable(),
});
const placedSchema = tensorSchema.extend({ offset: size });

const manifestSchema = z.object({
  version: size,
  kind: z.enum(['full', 'delta', 'adapter']),
  digest: sha256.nullable(),
  base: z.object({ version: size, digest: sha256 }).nullable(),
  digest_algorithm: z.enum(['sha256', 'none']),
  total_size: size,
  created: z.iso.datetime(),
  publisher: z.object({
    nonce: z.string().regex(/^[0-9a-f]{16}$/),
    host: text,
    pid: z.number().int().min(1),
    weightcast: text,
  }),
  shards: z
    .array(
      z.object({ name: text, size, header_size: size, header_sha256: sha256, tensors: z.array(z.unknown()) }),
    )
    .max(100_000),
  files: z.array(z.object({ name: text, size, sha256 })).max(100_000),
  tensors: z.array(z.unknown()).optional(),
});

/** The manifest as bytes: one line a tensor, for people. */
export function* encodeManifest(manifest: Manifest): Steps<Buffer> {
  const parts: string[] = [];
  const { version, kind, digest, base, digestAlgorithm, totalBytes, created, publisher } = manifest;
  const head = {
    ...{ format: FORMAT, format_version: FORMAT_VERSION, version, kind, digest, base },
    ...{ digest_algorithm: digestAlgorithm, total_size: totalBytes, created, publisher },
  };
  parts.push(`${JSON.stringify(head, null, 1).slice(0, -2)},\n "shards": [`);
  for (const [index, shard] of manifest.shards.entries()) {
    const { name, byteLength, headerByteLength, headerSha256 } = shard;
    const facts = {
      ...{ name, size: byteLength, header_size: headerByteLength, header_sha256: headerSha256 },
    };
    parts.push(`${index === 0 ? '\n' : ',\n'}  ${JSON.stringify(facts).slice(0, -1)},"tensors":[`);
    yield* encodeTensors(shard.tensors, parts);
    parts.push(']}');
  }
  const files = manifest.files.map(({ name, byteLength, sha256 }) => ({ name, size: byteLength, sha256 }));
  parts.push(`],\n "files": ${JSON.stringify(files)}`);
  if (manifest.tensors !== null) {
    parts.push(',\n "tensors": [');
    yield* encodeTensors(manifest.tensors, parts);
    parts.push(']');
  }
  parts.push('\n}\n');
  const bytes = Buffer.from(parts.join(''));
  if (bytes.length > MAX_MANIFEST_BYTES) {
    throw new WeightcastError(
      'WC_MANIFEST_INVALID',
      `the manifest would have ${bytes.length} bytes, and may have ${MAX_MANIFEST_BYTES}`,
      { remedy: 'Publish fewer tensors in one version.' },
    );
  }
  return bytes;
}

function* encodeTensors(
  tensors: readonly (ManifestTensor & { readonly offset?: number })[],
  parts: string[],
): Steps<void> {
  for (const [index, { name, dtype, shape, offset, byteLength, sha256 }] of tensors.entries()) {
    const line = JSON.stringify({ name, dtype, shape, offset, size: byteLength, sha256 });
    parts.push(`${index === 0 ? '\n' : ',\n'}   ${line}`);
    if (index % TENSORS_PER_STEP === 0) yield;
  }
}

/**
 * Parses and checks a manifest: also that its tensors fill their files, that names stay in the folder, and that the version's digest is that of its tensors.
 *
 * @param where its path, for errors
 * @throws WeightcastError WC_MANIFEST_INVALID
 */
export function* parseManifest(bytes: Buffer, where: string): Steps<Manifest> {
  try {
    const value = yield* parseJsonValue(bytes, LIMITS);
    const { format, format_version: formatVersion } = (value ?? {}) as Record<string, unknown>;
    if (format !== FORMAT) throw new ManifestError(`its format is not ${FORMAT}`);
    if (formatVersion !== FORMAT_VERSION) {
      throw new ManifestError(
        `format_version ${String(formatVersion)}: this weightcast reads ${FORMAT_VERSION}`,
      );
    }
    const manifest = yield* fromJson(valid(manifestSchema, value, ''));
    yield* checkManifest(manifest);
    return manifest;
  } catch (error) {
    if (error instanceof JsonError) throw invalid(where, `${error.message} (byte ${error.at})`);
    if (error instanceof ManifestError) throw invalid(where, error.message);
    throw error;
  }
}

function* fromJson(json: z.output<typeof manifestSchema>): Steps<Manifest> {
  const shards: ManifestShard[] = [];
  for (const { name, size, header_size, header_sha256, tensors } of json.shards) {
    const placed: PlacedTensor[] = [];
    for (const [index, tensor] of tensors.entries()) {
      const { size, ...facts } = valid(placedSchema, tensor, `${name}: tensor ${index}`);
      placed.push({ ...facts, byteLength: size });
      if (index % TENSORS_PER_STEP === 0) yield;
    }
    const place = { name, byteLength: size, headerByteLength: header_size, headerSha256: header_sha256 };
    shards.push({ ...place, tensors: placed });
  }
  const tensors: ManifestTensor[] = [];
  for (const [index, tensor] of (json.tensors ?? []).entries()) {
    const { size, ...facts } = valid(tensorSchema, tensor, `tensor ${index}`);
    tensors.push({ ...facts, byteLength: size });
    if (index % TENSORS_PER_STEP === 0) yield;
  }
  const { version, kind, digest, base, created, publisher } = json;
  return {
    ...{ version, kind, digest, base, created, publisher, shards },
    digestAlgorithm: json.digest_algorithm,
    totalBytes: json.total_size,
    files: json.files.map(({ name, size, sha256 }) => ({ name, byteLength: size, sha256 })),
    tensors: json.tensors === undefined ? null : tensors,
  };
}

function valid<S extends z.ZodType>(schema: S, value: unknown, place: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const path = [place, ...(issue?.path ?? [])].filter((part) => part !== '').join(': ');
  throw new ManifestError(`${path.slice(0, 300)}: ${issue?.message ?? 'not as it should be'}`);
}

/**
 * Reads and checks the manifest in a version's folder.
 *
 * @param version the one that it must be of; null takes any
 * @throws WeightcastError WC_VERSION_NOT_FOUND when there is none, WC_MANIFEST_INVALID, WC_FILE_READ
 */
export async function readManifest(
  folder: string,
  {
    version = null,
    signal = null,
  }: { readonly version?: number | null; readonly signal?: AbortSignal | null } = {},
): Promise<Manifest> {
  const path = join(folder, MANIFEST_NAME);
  const manifest = await runInSlices(parseManifest(await readBytes(path), path), signal);
  if (version !== null && manifest.version !== version) {
    throw invalid(path, `it is of version ${manifest.version}, not ${version}`);
  }
  return manifest;
}

async function readBytes(path: string): Promise<Buffer> {
  try {
    await using file = await open(path, READ_NO_OTHER);
    return await readWhole(file, path);
  } catch (error) {
    if (hasCode(error, 'WC_MANIFEST_INVALID')) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ELOOP') throw invalid(path, 'a symbolic link');
    // ESTALE is how NFS says that it was removed.
    const gone = code === 'ENOENT' || code === 'ENOTDIR' || code === 'ESTALE';
    throw new WeightcastError(
      gone ? 'WC_VERSION_NOT_FOUND' : 'WC_FILE_READ',
      gone ? `${path} is not there` : `${path}: ${message}`,
      { cause: error, details: { path, code: code ?? null } },
    );
  }
}

async function readWhole(file: FileHandle, path: string): Promise<Buffer> {
  const status = await file.stat();
  if (!status.isFile()) throw invalid(path, 'not a regular file');
  if (status.size > MAX_MANIFEST_BYTES) throw invalid(path, `more than ${MAX_MANIFEST_BYTES} bytes`);
  const bytes = Buffer.allocUnsafeSlow(status.size);
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, done);
    if (bytesRead === 0) throw invalid(path, 'it became shorter while it was read');
    done += bytesRead;
  }
  return bytes;
}

/**
 * Writes a manifest, which must not be there yet.
 *
 * @param sync whether it must be on the disk before this resolves
 * @throws the system's errors: EEXIST when there is one
 */
export async function writeManifest(
  folder: string,
  manifest: Manifest,
  { sync, signal = null }: { readonly sync: boolean; readonly signal?: AbortSignal | null },
): Promise<void> {
  const bytes = await runInSlices(encodeManifest(manifest), signal);
  await using file = await open(join(folder, MANIFEST_NAME), 'wx');
  await file.writeFile(bytes);
  if (sync) await file.sync();
}

function invalid(path: string, message: string): WeightcastError {
  return new WeightcastError('WC_MANIFEST_INVALID', `${path}: ${message}`, { details: { path } });
}
