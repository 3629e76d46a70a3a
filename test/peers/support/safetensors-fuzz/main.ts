/**
 * The long run of the differential fuzz: `npm run fuzz:safetensors -- [--files N] [--seed N]`. Prints how often each known difference was met and
 * every file on which the readers differ in another way, and fails on one.
 */
import { parseArgs } from 'node:util';
import { makePython, safetensorsPackages } from '../venv.js';
import { compare } from './compare.js';
import { STRICTER } from './differences.js';
import { Reference } from './reference.js';

const { values } = parseArgs({
  options: { files: { type: 'string', default: '1000000' }, seed: { type: 'string' } },
});
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 32));
const files = Number(values.files);
const python = await makePython(safetensorsPackages);
await using reference = new Reference(python.python);
const began = performance.now();
const { accepted, known, unexplained, reasons } = await compare(reference, { seed, files });
const seconds = ((performance.now() - began) / 1000).toFixed(0);
say(`seed ${seed}: ${files} files in ${seconds} s, of which the reference accepted ${accepted}`);
for (const [reason, times] of [...reasons].sort(([, a], [, b]) => b - a))
  say(`  ${times} refused: ${reason}`);
for (const difference of STRICTER) say(`${known.get(difference) ?? 0} × only we refuse a ${difference.fact}`);
say(`${unexplained.length} disagreements that nothing explains`);
for (const disagreement of unexplained.slice(0, 20)) say(JSON.stringify(disagreement));
process.exitCode = unexplained.length === 0 ? 0 : 1;

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
