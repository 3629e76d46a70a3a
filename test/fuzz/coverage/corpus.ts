import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../corpus/', import.meta.url));
const file = (target: string): string => `${folder}${target}.txt`;

/** Inputs that were kept for a target: what reached something new, and what once failed. One a line, in base64. */
export function corpusOf(target: string): Uint8Array[] {
  if (!existsSync(file(target))) return [];
  const lines = readFileSync(file(target), 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => Buffer.from(line, 'base64'));
}

/** Adds inputs, each once, the shortest first. */
export function addToCorpus(target: string, inputs: readonly Uint8Array[]): void {
  const lines = [...corpusOf(target), ...inputs].map((input) => Buffer.from(input).toString('base64'));
  const unique = [...new Set(lines)].sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  mkdirSync(folder, { recursive: true });
  writeFileSync(file(target), unique.map((line) => `${line}\n`).join(''));
}
