/**
 * The long run of the differential fuzz: `npm run fuzz:safetensors`. Prints how often each known difference was met and
 * every file on which the readers differ in another way, and fails on one.
 */
import { commandLine } from '../../../command-line.mjs';
import { makePython, safetensorsPackages } from '../venv.js';
import { compare } from './compare.js';
import { STRICTER } from './differences.js';
import { Reference } from './reference.js';

const { values } = commandLine('fuzz:safetensors', {
  about: 'Files that safetensors of Python and weightcast both read, and must find the same in.',
  options: {
    files: { number: 1_000_000, text: 'how many' },
    seed: { number: null, text: 'of what is random' },
  },
});
const seed = values.seed ?? Math.floor(Math.random() * 2 ** 32);
const { files } = values;
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
