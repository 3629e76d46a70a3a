/**
 * Lets plain Node run the simulator: its own TypeScript is transpiled as it is loaded, and the product is the compiled one in dist/, as its
 * users run it. Node 20 cannot load TypeScript, and thousands of runs in a test runner's worker would pay for its module graph and its isolation.
 *
 *     node --import ./test/faults/typescript.mjs test/faults/main.ts
 */
import { readFile } from 'node:fs/promises';
import { register } from 'node:module';
import { isMainThread } from 'node:worker_threads';

const root = new URL('../../', import.meta.url).href;

if (isMainThread) register(import.meta.url);

/** `./x.js` beside a TypeScript file is `./x.ts`; what lies in src/ is taken from dist/. */
export function resolve(specifier, context, next) {
  const ours = ['test/', 'bench/'].some((folder) => context.parentURL?.startsWith(root + folder));
  if (!specifier.startsWith('.') || !ours) return next(specifier, context);
  const url = new URL(specifier, context.parentURL).href;
  if (url.startsWith(`${root}src/`)) return next(`${root}dist/${url.slice(root.length + 4)}`, context);
  return next(url.replace(/\.js$/, '.ts'), context);
}

export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context);
  const { default: typescript } = await import('typescript');
  const { outputText } = typescript.transpileModule(await readFile(new URL(url), 'utf8'), {
    fileName: url,
    compilerOptions: {
      module: typescript.ModuleKind.ESNext,
      target: typescript.ScriptTarget.ES2022,
      inlineSourceMap: true,
    },
  });
  return { format: 'module', source: outputText, shortCircuit: true };
}
