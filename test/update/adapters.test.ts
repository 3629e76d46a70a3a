import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startReferenceEngine } from '../../src/testing/index.js';
import { withBench } from './support.js';

async function writeAdapter(directory: string): Promise<string> {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'adapter_config.json'), '{}');
  await writeFile(join(directory, 'adapter_model.safetensors'), new Uint8Array(0));
  return directory;
}

async function served(url: string): Promise<string[]> {
  const body = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
  return body.data.map(({ id }) => id).filter((id) => id !== 'reference');
}

it('serves each version of an adapter under a name of its own and unloads the one before', async () => {
  await withBench({ engines: 2, workers: 1 }, async ({ connect, urls, a }) => {
    const adapter = await writeAdapter(join(a, 'adapter'));
    const session = await connect();
    expect(await session.loadAdapter(adapter, { name: 'policy', version: '1' })).toEqual({
      servedAs: 'policy-v1',
      replaced: null,
      notes: [],
    });
    expect(await session.loadAdapter(adapter, { name: 'policy', version: '2' })).toMatchObject({
      servedAs: 'policy-v2',
      replaced: 'policy-v1',
    });
    expect(await Promise.all(urls.map(served))).toEqual([['policy-v2'], ['policy-v2']]);
    await expect(session.loadAdapter(adapter, { name: 'policy', version: '2' })).rejects.toMatchObject({
      code: 'WC_CONFIG_INVALID',
    });
  });
});

it('takes a version back from the others when one engine refuses it', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, urls, a }) => {
    const adapter = await writeAdapter(join(a, 'adapter'));
    await using strict = await startReferenceEngine({ model: a, workers: 1, loraUpdating: false });
    const session = await connect({ engines: [...urls, strict.url] });
    await expect(session.loadAdapter(adapter, { name: 'policy', version: '1' })).rejects.toMatchObject({
      engine: strict.url,
    });
    expect(await served(urls[0] as string)).toEqual([]);
  });
});

it('names the file that an adapter directory lacks, before any engine is asked', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, engines, a }) => {
    const session = await connect();
    await expect(session.loadAdapter(a, { name: 'policy', version: '1' })).rejects.toMatchObject({
      code: 'WC_CHECKPOINT_NOT_FOUND',
      message: expect.stringContaining('adapter_config.json'),
    });
    expect((await engines[0]?.exchanges())?.map(({ path }) => path)).not.toContain('/v1/load_lora_adapter');
  });
});
