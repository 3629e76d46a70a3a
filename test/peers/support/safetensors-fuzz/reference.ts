/** The reference library in a Python child that judges files in batches, over pipes: see reference.py. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('reference.py', import.meta.url));
const ANSWER_TIMEOUT_MS = 120_000;

export class Reference implements AsyncDisposable {
  readonly #child;
  readonly #ended: Promise<never>;
  readonly #exited: Promise<void>;

  constructor(python: string) {
    const child = spawn(python, [SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    this.#exited = new Promise((resolve) => child.once('close', () => resolve()));
    this.#ended = new Promise((_, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => reject(new Error(`the reference ended with ${code ?? signal}`)));
    });
    this.#ended.catch(() => {});
    child.stdin.on('error', () => {}); // it ended, which is told by then
  }

  /** `+` and all that is in the file, or `-` and why it was refused: the verdict's bytes as latin1. */
  async judge(files: readonly Buffer[]): Promise<string[]> {
    return (await this.#ask('J', files)).map((answer) => answer.toString('latin1'));
  }

  /** What Python's own JSON parser finds in a header that was accepted. */
  async facts(file: Buffer): Promise<string[]> {
    const [answer] = await this.#ask('F', [file]);
    return JSON.parse((answer as Buffer).toString()) as string[];
  }

  async #ask(kind: 'J' | 'F', files: readonly Buffer[]): Promise<Buffer[]> {
    const parts = [Buffer.from(kind), number(files.length)];
    for (const file of files) parts.push(number(file.length), file);
    this.#child.stdin.write(Buffer.concat(parts));
    const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const late = new Promise<never>((_, reject) => {
      timeout.addEventListener('abort', () => reject(new Error('the reference does not answer')));
    });
    late.catch(() => {});
    return Promise.race([this.#answer(), this.#ended, late]);
  }

  #answer(): Promise<Buffer[]> {
    const output = this.#child.stdout;
    return new Promise((resolve) => {
      let chunks: Buffer[] = [];
      let held = 0;
      const take = (chunk: Buffer) => {
        if (held < 4) chunks = [Buffer.concat([...chunks, chunk])];
        else chunks.push(chunk);
        held += chunk.length;
        const [first] = chunks as [Buffer];
        if (first.length < 4 || held < 4 + first.readUInt32LE(0)) return;
        output.off('data', take);
        resolve(framed(Buffer.concat(chunks)));
      };
      output.on('data', take);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    await this.#exited;
  }
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function framed(bytes: Buffer): Buffer[] {
  const answers: Buffer[] = [];
  for (let at = 4; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32LE(at);
    answers.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return answers;
}
