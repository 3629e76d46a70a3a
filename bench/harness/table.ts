/** Figures as a table: the limit and the peer stand beside each number. */
import type { Figure, Reference } from '../case.js';

export function formatNumber(value: number): string {
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString('en-US');
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return size >= 0.1 || value === 0 ? value.toFixed(2) : value.toPrecision(2);
}

const verdict = ({ goal }: Figure): string => (goal.met === null ? '–' : goal.met ? 'met' : 'MISSED');

function beside(ours: number, reference: Reference | undefined): string {
  if (reference === undefined) return '';
  const ratio = reference.value === 0 ? '' : `, ours ÷ it = ${(ours / reference.value).toFixed(2)}`;
  return `${formatNumber(reference.value)} (${reference.name}${ratio})`;
}

const columns = ['figure', 'ours', 'spread', 'limit', 'peer', 'goal', 'goal met'] as const;

export function rows(figures: readonly Figure[]): string[][] {
  return figures.map((figure) => [
    figure.name,
    `${formatNumber(figure.ours)} ${figure.unit}`,
    figure.spread === undefined ? '' : `${Math.round(figure.spread * 100)} %`,
    beside(figure.ours, figure.limit),
    beside(figure.ours, figure.peer),
    figure.goal.text,
    verdict(figure),
  ]);
}

/** A Markdown table; it is padded so that it reads as it is on a terminal too. */
export function markdownTable(figures: readonly Figure[]): string {
  const lines = [[...columns], ...rows(figures)];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const text = (line: readonly string[]): string =>
    `| ${line.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`;
  const [head = [], ...body] = lines;
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`;
  const notes = figures.flatMap(({ name, note }) => (note === undefined ? [] : [`- ${name}: ${note}`]));
  return [text(head), rule, ...body.map(text), ...(notes.length > 0 ? ['', ...notes] : [])].join('\n');
}
