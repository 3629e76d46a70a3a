import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { checkLibraries } from '../../../src/cli/doctor/libraries.js';

it('says devices that are alike in one line', async () => {
  const { findings } = await checkLibraries(
    { emulate: true, cudaLibrary: null, ncclLibrary: null, needed: true, device: 0 },
    {
      timeoutMs: 30_000,
      program: fileURLToPath(new URL('../../../dist/cli/doctor/probe.js', import.meta.url)),
    },
  );
  const devices = findings.filter(({ about }) => about.startsWith('device'));
  expect(devices.map(({ about }) => about)).toEqual(['devices 0-7']);
});
