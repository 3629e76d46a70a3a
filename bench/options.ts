/** What `npm run bench` and `npm run bench:gpu` take. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CommandLine, commandLine, wrongUsage } from '../test/command-line.mjs';
import { cases } from './cases/index.js';

const OPTIONS = {
  quick: { text: 'smaller, fewer rounds: to see that it works' },
  results: { value: 'DIR', text: 'where results are written; a whole run that is not quick has its place' },
  scratch: {
    value: 'DIR',
    preset: process.env['WEIGHTCAST_BENCH_SCRATCH'] ?? join(tmpdir(), 'weightcast-bench'),
    text: 'where checkpoints are made',
  },
} as const;

/** `operands` are names of cases. Ends the process where there is no such case. */
export function benchOptions(command: string, about: string): CommandLine<typeof OPTIONS> {
  const names = Object.keys(cases);
  const given = commandLine(command, {
    about: `${about}\ncases: ${names.join(', ')}`,
    operands: '[case …]',
    options: OPTIONS,
  });
  const unknown = given.operands.find((name) => !Object.hasOwn(cases, name));
  if (unknown !== undefined) wrongUsage(`no case ${unknown}`);
  return given;
}
