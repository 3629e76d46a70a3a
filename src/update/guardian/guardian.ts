/**
 * The process that puts engines right when the one that updates them is killed. It learns of that by the end of a pipe, which the kernel closes however a
 * process ends. It is in a session of its own, so that what a terminal sends does not reach it, and it keeps nobody alive.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { RecordFile } from '../claim/journal.js';
import type { Settings } from '../settings.js';
import type { GuardianMessage } from './message.js';

/** An update waits so long for its guardian, and then goes on without. */
const READY_MS = 10_000;
const EXIT_MS = 1_000;

/** Variables that Node, TLS and the addon read. The engines' keys may be in others, so nothing else is handed on. */
const HANDED_ON =
  /^(PATH|HOME|TMPDIR|TZ|LANG|LD_LIBRARY_PATH|NODE_EXTRA_CA_CERTS|NODE_TLS_REJECT_UNAUTHORIZED|NODE_OPTIONS|SSL_CERT_(FILE|DIR)|XDG_RUNTIME_DIR|WEIGHTCAST_\w+)$/;

export class Guardian {
  readonly #child: ChildProcess | null;
  readonly #ended: Promise<void>;
  #hasEnded = false;
  /** Records that it has said to watch. */
  readonly #watching = new Map<string, () => void>();

  private constructor(child: ChildProcess | null) {
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      if (child === null) return resolve();
      child.once('close', () => resolve());
      child.once('error', () => resolve());
    });
    void this.#ended.then(() => {
      this.#hasEnded = true;
    });
    if (child === null) return;
    // It may die at any time: then there is none.
    child.stdin?.on('error', () => {});
    // Where no pipe could be made there is none, whatever the types say.
    if (child.stdout) {
      createInterface({ input: child.stdout }).on('line', (id) => this.#watching.get(id)?.());
    }
    letGo(child);
  }

  /** Starts the process; whether it came up is seen by {@link guard}. */
  static start(settings: Settings): Guardian {
    const program = programPath();
    if (!existsSync(program)) return new Guardian(null);
    const secrets = secretsOf(settings);
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name, value = '']) => HANDED_ON.test(name) && !secrets.has(value)),
    );
    // No working directory of somebody's is kept from being unmounted.
    const child = spawn(process.execPath, [program], {
      detached: true,
      cwd: '/',
      env,
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    return new Guardian(child);
  }

  /** It watches over nothing any more, or never did. */
  get ended(): boolean {
    return this.#hasEnded;
  }

  /** Resolves to true when it watches over this update; to false when it does not. */
  async guard(record: RecordFile, settings: Settings): Promise<boolean> {
    const { id, push } = record.head;
    let timer: NodeJS.Timeout | undefined;
    const watching = new Promise<boolean>((resolve) => {
      this.#watching.set(id, () => resolve(true));
      timer = setTimeout(() => resolve(false), READY_MS);
      void this.#ended.then(() => resolve(false));
    });
    const {
      engines,
      backend,
      transport,
      fallback,
      recover,
      pauseMode,
      clearCache,
      verify,
      apiKey,
      headers,
      timeouts,
    } = settings;
    this.#send({
      kind: 'guard',
      id,
      push,
      fleet: {
        ...{ engines, backend, transport, fallback, pauseMode, clearCache, verify, headers, timeouts },
        ...(recover === null ? {} : { recover }),
        ...(apiKey === null ? {} : { apiKey }),
        stateDir: dirname(record.file),
      },
    });
    const watched = await watching;
    clearTimeout(timer);
    this.#watching.delete(id);
    return watched;
  }

  /** The update has ended. */
  idle(): void {
    this.#send({ kind: 'idle' });
  }

  /** Ends it. Safe to call twice. */
  async close(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    // Where it takes long to end nothing else may keep this process awake, and it would leave with 13.
    child.ref();
    child.stdin?.end();
    const timer = setTimeout(() => child.kill('SIGKILL'), EXIT_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  #send(message: GuardianMessage): void {
    this.#child?.stdin?.write(`${JSON.stringify(message)}\n`);
  }
}

/**
 * The guardian that watches over this update: the one at hand, or another, where that one was killed and it was not noticed yet. When none does, that is told,
 * and the update goes on.
 */
export async function guarded(
  guardian: Guardian,
  update: { readonly record: RecordFile; readonly settings: Settings },
  tell: (text: string) => void,
): Promise<Guardian> {
  const { record, settings } = update;
  if (await guardian.guard(record, settings)) return guardian;
  const next = guardian.ended ? Guardian.start(settings) : guardian;
  if (next === guardian || !(await next.guard(record, settings))) {
    tell('the guardian did not start: if this process is killed, engines stay paused until the next push');
  }
  return next;
}

/** A key may be in a variable of ours that is handed on. */
function secretsOf({ apiKey, headers, engines }: Settings): ReadonlySet<string | null> {
  const own = engines.flatMap((spec) =>
    typeof spec === 'string' ? [] : [spec.apiKey ?? null, ...Object.values(spec.headers ?? {})],
  );
  return new Set([apiKey, ...Object.values(headers), ...own]);
}

/** Neither the process nor its pipes keep this one running. */
function letGo(child: ChildProcess): void {
  child.unref();
  for (const pipe of [child.stdin, child.stdout]) (pipe as { unref?(): void } | null)?.unref?.();
}

/** Always the compiled program, also when this module runs from its TypeScript source. */
function programPath(): string {
  const compiled = import.meta.url.endsWith('.js');
  return fileURLToPath(
    new URL(compiled ? './main.js' : '../../../dist/update/guardian/main.js', import.meta.url),
  );
}
