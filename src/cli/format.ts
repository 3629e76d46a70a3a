/** Numbers and foreign text for people. */

/** '1.19 GB': decimal units, as rates are given. */
export function size(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** '1170 MB/s' */
export function rate(bytesPerSecond: number): string {
  const megabytes = bytesPerSecond / 1e6;
  return `${megabytes.toFixed(megabytes >= 10 ? 0 : 1)} MB/s`;
}

/** '85 ms', '1.31 s', '2 min 5 s' */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** '1 engine', '2 engines' */
export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

/** Text that engines and files sent: without control characters, which could rewrite the terminal, and bounded. */
export function printable(text: string, limit = 2000): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what this removes
  const clean = text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, ' ');
  return clean.length > limit ? `${clean.slice(0, limit)}…` : clean;
}

/** Colours by ANSI codes where `on`, else the text as it is. */
export function paint(on: boolean, style: 'bold' | 'red' | 'green' | 'yellow', text: string): string {
  const codes = { bold: 1, red: 31, green: 32, yellow: 33 };
  return on ? `\u001b[${codes[style]}m${text}\u001b[0m` : text;
}
