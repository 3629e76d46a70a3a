import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { type TestName, TRAPS } from './trap-table.js';

const root = new URL('../../', import.meta.url);

/** True when the file has a test whose name contains this. */
function exists([file, name]: TestName): boolean {
  const source = readFileSync(new URL(file, root), 'utf8');
  const tests = file.endsWith('.cc')
    ? /^(?:CASE\((\w+)\)|void (\w+)\(\) \{)/gm
    : /\bit\(\s*['`"](.*?)['`"],/g;
  return [...source.matchAll(tests)].some((match) => (match[1] ?? match[2] ?? '').includes(name));
}

it('every trap that was measured has its tests, by name', () => {
  const missing = TRAPS.flatMap(({ trap, emulator, addon }) => {
    const named = [...emulator, ...addon];
    const gone = named.filter((test) => !exists(test)).map(([file, name]) => `${trap}: ${file}: ${name}`);
    return named.length === 0 ? [`${trap}: no test`] : gone;
  });
  expect(missing).toEqual([]);
});

it('every fault of the emulator is named in its README and used by a test', () => {
  const read = (file: string): string => readFileSync(new URL(file, root), 'utf8');
  const source = read('native/emulator/common/faults.cc');
  const faults = [...source.matchAll(/\{"([a-z-]+)", &Faults::/g)].map((match) => match[1]!);
  expect(faults.length).toBeGreaterThanOrEqual(14);
  const readme = read('native/emulator/README.md');
  const tests = [
    ...new Set(TRAPS.flatMap(({ emulator, addon }) => [...emulator, ...addon]).map(([file]) => file)),
  ]
    .map(read)
    .join('\n');
  expect(faults.filter((fault) => !readme.includes(`\`${fault}`))).toEqual([]);
  expect(faults.filter((fault) => !tests.includes(fault))).toEqual([]);
});
