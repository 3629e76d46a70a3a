import { CommanderError } from 'commander';
import { WeightcastError } from '../errors.js';
import type { ErrorReport } from '../update/types.js';
import type { CommandContext } from './context.js';
import { EXIT, errorReport, exitCodeOfError } from './outcome.js';
import { buildProgram } from './program.js';
import { errorLines } from './summary.js';

/**
 * Runs one command line; never throws.
 * @returns the exit code. With --json, stdout has got one JSON document, also for wrong usage.
 */
export async function run(args: readonly string[], context: CommandContext): Promise<number> {
  let code: number = EXIT.ok;
  const program = buildProgram(context, (exitCode) => {
    code = exitCode;
  });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return code;
  } catch (error) {
    const named = program.commands.find((command) => command.name() === args[0])?.name();
    return report(error, { json: args.includes('--json'), command: named ?? 'push' }, context);
  }
}

interface Asked {
  readonly json: boolean;
  readonly command: string;
}

function report(error: unknown, { json, command }: Asked, { io }: CommandContext): number {
  if (error instanceof CommanderError) return usage(error, { json, command }, io);
  const plain = reportOf(error, command);
  if (json) io.out.write(`${JSON.stringify({ error: plain })}\n`);
  io.err.write(`${errorLines(plain, io.err.color).join('\n')}\n`);
  const interrupted = error instanceof WeightcastError && error.code === 'WC_UPDATE_ABORTED';
  return exitCodeOfError(error, interrupted);
}

/** The options of push are not those of every command. */
function reportOf(error: unknown, command: string): ErrorReport {
  const plain = errorReport(error);
  const remedy = plain.remedy?.replace('weightcast push --help', `weightcast ${command} --help`) ?? null;
  return { ...plain, remedy };
}

/** commander has written its own text already. */
function usage(error: CommanderError, { json, command }: Asked, io: CommandContext['io']): number {
  if (error.exitCode === 0) return EXIT.ok;
  if (json) {
    const invalid = new WeightcastError('WC_CONFIG_INVALID', error.message.replace(/^error: /, ''));
    io.out.write(`${JSON.stringify({ error: reportOf(invalid, command) })}\n`);
  }
  return EXIT.usage;
}
