/** The command line: names, arguments and help. Each command is loaded when it runs, so that help is quick. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { packageVersion } from '../version.js';
import type { CommandContext } from './context.js';
import * as help from './help.js';
import { addFleetFlags } from './options.js';

/** A parser for a whole number from 1 on. */
function positive(value: string): number {
  if (!/^[1-9]\d{0,8}$/.test(value)) throw new InvalidArgumentError('It must be a whole number from 1 on.');
  return Number(value);
}

/** A parser for seconds, from 0 on. */
function seconds(value: string): number {
  if (!/^\d{1,9}(\.\d{1,3})?$/.test(value)) throw new InvalidArgumentError('It must be a number of seconds.');
  return Number(value);
}

/** A parser for a deadline. */
function deadline(value: string): number {
  const parsed = /^\d{1,8}(\.\d{1,6})?$/.test(value) ? Number(value) : 0;
  if (parsed <= 0) throw new InvalidArgumentError('It must be a number of seconds, more than 0.');
  return parsed;
}

/** Builds the program; `done` gets the exit code of the command that ran. */
export function buildProgram(context: CommandContext, done: (code: number) => void): Command {
  const program = new Command('weightcast')
    .description(help.DESCRIPTION)
    .version(packageVersion())
    // publish has a --version of its own.
    .enablePositionalOptions()
    .addHelpText('after', help.EXIT_CODES)
    .showHelpAfterError('(weightcast <command> --help tells more)')
    .configureOutput({
      writeOut: (text) => context.io.out.write(text),
      writeErr: (text) => context.io.err.write(text),
    })
    .exitOverride();

  const command = (usage: string, description: string, examples: string) =>
    program.command(usage).description(description).addHelpText('after', examples);
  const output = (target: Command, json: string) =>
    target.option('--json', json).option('--quiet', 'print nothing but errors');

  output(
    addFleetFlags(command('push <weights>', 'push a checkpoint into engines', help.PUSH_EXAMPLES), 'push')
      .option('--weight-version <text>', 'name that engines record for these weights')
      .option(
        '--delta-from <dir>',
        'the version that the engines hold: only what differs from it is sent (vLLM 0.30 and later, started with the backend sparse_nccl)',
      )
      .option(
        '--delta-from-version <text>',
        'weight version of engines that hold it; one that says another is not patched',
      ),
    'print the report as one JSON document on stdout, everything else on stderr',
  ).action(async (weights, flags) => {
    const { push } = await import('./push.js');
    done(await push(weights, flags, context));
  });

  output(
    addFleetFlags(
      command('watch <directory>', "follow a trainer's output and push each version", help.WATCH_EXAMPLES),
      'watch',
    )
      .option(
        '--delta',
        'only what differs from the version pushed before is sent (vLLM 0.30 and later, started with the backend sparse_nccl); engines that do not hold that one load the whole version from disk where --fallback says so',
      )
      .option(
        '--delta-from <dir>',
        'what the engines hold at the start: the base of the first delta; implies --delta',
      )
      .option(
        '--delta-from-version <text>',
        'weight version of engines that hold it; one that says another is not patched',
      )
      .option('--interval <seconds>', 'time between two looks at the folder (default: 1)')
      .option('--max-updates <n>', 'end after so many updates', positive),
    'print one JSON document a line for each update, everything else on stderr',
  ).action(async (directory, flags) => {
    const { watch } = await import('./watch.js');
    done(await watch(directory, flags, context));
  });

  output(
    command('publish <weights>', 'write weights as a version that engines load', help.PUBLISH_EXAMPLES)
      .requiredOption('--into <dir>', 'where versions are published; made when it is not there')
      .requiredOption('--version <n>', 'number of the version, from 0 on')
      .addOption(
        new Option('--commit <mode>', 'how it appears')
          .choices(['rename', 'manifest-last'])
          .default('rename'),
      )
      .option('--no-fsync', 'return before the version would survive a power loss')
      .option('--no-digests', 'without a SHA-256 of each tensor: readers check sizes only')
      .option('--shard-size <size>', 'tensors in one file at most (default: 5GB)')
      .option('--delta', 'only what changed against the version before, where there is one')
      .option('--delta-base <dir>', 'the weights of that version, when it is a delta itself; implies --delta')
      .option('--anchor-every <k>', 'with --delta: every k-th version is full (default: 10)', positive)
      .option('--grace <seconds>', 'what an unreachable publisher left is removed after (default: 3600)')
      .option('--keep <n>', 'then prune: so many of the newest versions stay, 2 or more', positive)
      .option('--keep-every <k>', 'then prune: versions that are a multiple of this stay too', positive),
    'print what was published as one JSON document',
  ).action(async (weights, flags) => {
    const { publish } = await import('./publish.js');
    done(await publish(weights, flags, context));
  });

  output(
    addFleetFlags(
      command('recover', 'put engines right after a push that was killed', help.RECOVER_EXAMPLES),
      'recover',
    ).option('--from <dir>', 'load this checkpoint on engines that cannot be resumed as they are'),
    'print what was found and done as one JSON document',
  ).action(async (flags) => {
    const { recover } = await import('./recover.js');
    done(await recover(flags, context));
  });

  output(
    addFleetFlags(
      command('fleet', 'show which engines are found, and their state', help.FLEET_EXAMPLES),
      'fleet',
    )
      .option('--watch', 'go on until Ctrl-C, with what changes')
      .option('--interval <seconds>', 'with --watch, time between two looks (default: 5)')
      .addOption(new Option('--prometheus', "print metrics in Prometheus' text format").conflicts('json')),
    'print what was found as one JSON document, with --watch one a line',
  ).action(async (flags) => {
    const { fleet } = await import('./fleet.js');
    done(await fleet(flags, context));
  });

  output(
    addFleetFlags(
      command('send <weights>', "be the trainer's rank 0 beside a prime-rl orchestrator", help.SEND_EXAMPLES)
        .requiredOption('--broadcasts <dir>', 'the folder that the orchestrator watches: <run>/broadcasts')
        .option(
          '--inference-world-size <n>',
          'GPU workers of all engines, without the trainer (default: as the engines of the file say)',
          positive,
        )
        .option('--weight-version <n>', 'the version to announce (default: <n> of a folder step_<n>)')
        .option('--watch', 'weights is a folder in which step_<n> folders appear, each with a file STABLE'),
      'send',
    )
      .addOption(
        new Option(
          '--markers <stable|dotfiles>',
          'those of prime-rl before and since August 2026 (default: both, and the answer decides)',
        ).choices(['stable', 'dotfiles']),
      )
      .option(
        '--timeout-answer <seconds>',
        'deadline: the orchestrator has paused its engines for a version (default: 1200)',
        deadline,
      )
      .option('--interval <seconds>', 'with --watch, time between two looks (default: 1)')
      .option('--max-updates <n>', 'with --watch, end after so many versions', positive),
    'print one JSON document a line for each version, everything else on stderr',
  ).action(async (weights, flags) => {
    const { send } = await import('./send.js');
    done(await send(weights, flags, context));
  });

  output(
    addFleetFlags(
      command(
        'orchestrate <broadcasts>',
        'be the orchestrator beside a prime-rl trainer',
        help.ORCHESTRATE_EXAMPLES,
      )
        .option(
          '--trainer <host:port>',
          'where its rank 0 listens (default: it writes files, which are loaded)',
        )
        .option(
          '--inference-world-size <n>',
          'GPU workers of all engines, without the trainer (default: their sum)',
          positive,
        ),
      'orchestrate',
    )
      .option('--lora-name <name>', 'the name under which adapters are loaded (default: policy)')
      .option('--interval <seconds>', 'time between two looks for a version (default: 1)')
      .option(
        '--timeout-idle <seconds>',
        'end when nothing is announced for so long (default: never)',
        deadline,
      )
      .option('--max-updates <n>', 'end after so many versions', positive),
    'print one JSON document a line for each version, everything else on stderr',
  ).action(async (broadcasts, flags) => {
    const { orchestrate } = await import('./orchestrate.js');
    done(await orchestrate(broadcasts, flags, context));
  });

  output(
    addFleetFlags(
      command('doctor', 'look for what is wrong here and at the engines', help.DOCTOR_EXAMPLES),
      'doctor',
    ),
    'print what was found as one JSON document',
  ).action(async (flags) => {
    const { doctor } = await import('./doctor.js');
    done(await doctor(flags, context));
  });

  output(
    command('prune <directory>', 'remove old versions that nobody reads', help.PRUNE_EXAMPLES)
      .option('--keep <n>', 'so many of the newest stay, at least 2 (default: 2)', positive)
      .option('--keep-every <k>', 'versions that are a multiple of k stay', positive)
      .option('--grace <seconds>', 'younger versions stay (default: 60)', seconds)
      .option('--dry-run', 'only say what would go'),
    'print what went and what stays as one JSON document',
  ).action(async (directory, flags) => {
    const { prune } = await import('./prune.js');
    done(await prune(directory, flags, context));
  });

  output(
    command('follow <directory>', 'keep a local copy of what is published', help.FOLLOW_EXAMPLES)
      .requiredOption('--into <dir>', 'the local directory, which gets step_<v> folders')
      .option('--keep <n>', 'so many of the newest stay there, at least 2 (default: 2)', positive)
      .option('--interval <seconds>', 'time between two looks (default: 1)', seconds)
      .option('--max-versions <n>', 'end after so many versions', positive)
      .option('--no-fsync', 'local copies may be lost with the power'),
    'print one JSON document a line for each version, everything else on stderr',
  ).action(async (directory, flags) => {
    const { follow } = await import('./follow.js');
    done(await follow(directory, flags, context));
  });

  output(
    command('simulate', 'run reference engines on this machine until Ctrl-C', help.SIMULATE_EXAMPLES)
      .option('--engines <n>', 'engines (default: 1)', positive)
      .option('--workers <n>', 'worker processes of each engine (default: 1)', positive)
      .addOption(
        new Option('--backend <name>', 'what they are (default: vllm)').choices([
          'vllm',
          'prime-rl',
          'dynamo',
        ]),
      )
      .addOption(
        new Option(
          '--broadcast <nccl|filesystem>',
          'how prime-rl servers were started to receive (default: nccl)',
        ).choices(['nccl', 'filesystem']),
      )
      .option('--vllm-version <version>', 'the vLLM version that they behave like (default: 0.32.0)')
      .option('--model <dir>', 'checkpoint that they load (default: a small random one)')
      .addOption(
        new Option(
          '--weight-transfer <backend>',
          'by which they receive; sparse_nccl takes deltas only (default: nccl)',
        ).choices(['nccl', 'sparse_nccl']),
      )
      .option('--port <n>', 'port of the first; the others follow (default: free ports)', positive),
    'print the addresses as one JSON document',
  ).action(async (flags) => {
    const { simulate } = await import('./simulate.js');
    done(await simulate(flags, context));
  });

  command('demo', 'push a 1.2 GB checkpoint to four emulated workers, twice', help.DEMO_EXAMPLES)
    .option('--small', 'with 14 MB instead of 1.2 GB')
    .action(async (flags) => {
      const { demo } = await import('./demo.js');
      done(await demo(flags, context));
    });

  return program;
}
