/**
 * The command lines of the developers' commands: what `--help` prints is what is parsed. Plain JavaScript, because some of them run without a loader.
 */
import { parseArgs } from 'node:util';

/** Ends the process with one line for whoever typed it wrong. */
export function wrongUsage(message) {
  process.stderr.write(`${message}; --help lists what there is\n`);
  process.exit(2);
}

/** The types are in command-line.d.mts. */
export function commandLine(command, { about, operands = null, options }) {
  const given = parsed(options, operands !== null);
  if (given.values.help === true) {
    process.stdout.write(help(command, { about, operands, options }));
    process.exit(0);
  }
  const values = Object.entries(options).map(([name, option]) => [
    name,
    valueFrom(name, option, given.values[name]),
  ]);
  return { values: Object.fromEntries(values), operands: given.positionals };
}

function parsed(options, allowPositionals) {
  const types = Object.entries(options).map(([name, option]) => {
    const type = placeholderOf(option) === null ? 'boolean' : 'string';
    return [name, { type, multiple: option.many === true }];
  });
  try {
    return parseArgs({
      options: { ...Object.fromEntries(types), help: { type: 'boolean' } },
      allowPositionals,
    });
  } catch (error) {
    return wrongUsage(error.message.split('. ')[0]);
  }
}

function valueFrom(name, option, text) {
  if (placeholderOf(option) === null) return text === true;
  if (option.number === undefined) return text ?? option.preset;
  if (text === undefined) return option.number ?? undefined;
  if (!/^\d+(\.\d+)?$/.test(text)) wrongUsage(`--${name} takes a number, not ${text}`);
  return Number(text);
}

/** null of a flag. */
function placeholderOf({ number, value }) {
  return number === undefined ? (value ?? null) : 'N';
}

function help(command, { about, operands, options }) {
  const rows = Object.entries(options).map(([name, option]) => {
    const placeholder = placeholderOf(option);
    const preset = option.number ?? option.preset ?? null;
    const notes = [
      preset === null ? [] : `default ${preset}`,
      option.many === true ? 'repeat it' : [],
    ].flat();
    const flag = placeholder === null ? `--${name}` : `--${name} ${placeholder}`;
    return [flag, notes.length === 0 ? option.text : `${option.text} (${notes.join('; ')})`];
  });
  const width = Math.max(...rows.map(([flag]) => flag.length));
  const lines = rows.map(([flag, text]) => `  ${flag.padEnd(width)}  ${text}\n`);
  return `npm run ${command} -- ${operands === null ? '' : `${operands} `}[options]\n\n${about}\n\n${lines.join('')}`;
}
