import type { WorkerGroup } from '../../../src/testing/server/core.js';
import { WorkerError } from '../../../src/testing/server/transfer-info.js';

/** Workers without processes: weights are a name, and every call is counted. */
export class FakeWorkers implements WorkerGroup {
  readonly size: number;
  readonly vocabulary = 512;
  readonly calls: string[] = [];
  weights = 'm1';
  /** A receive waits for this. */
  gate: Promise<void> = Promise.resolve();
  /** Error of the next receive. */
  receiveFails: string | null = null;

  constructor(size = 1) {
    this.size = size;
  }

  async load(directory: string): Promise<void> {
    this.calls.push(`load ${directory}`);
    if (directory.startsWith('/nonexistent')) {
      throw new WorkerError(
        `Repo id must be in the form 'repo_name' or 'namespace/repo_name': '${directory}'. Use \`repo_type\` argument if needed.`,
      );
    }
    if (directory.endsWith('empty')) {
      throw new WorkerError(`Cannot find any model weights with \`${directory}\``);
    }
    this.weights = directory;
  }

  async join(): Promise<void> {
    this.calls.push('join');
  }

  async receive(orders: readonly { readonly names: readonly string[] }[]): Promise<void> {
    this.calls.push(`receive ${orders.map((order) => order.names.join('+')).join(' ')}`);
    await this.gate;
    if (this.receiveFails !== null) {
      throw new WorkerError(this.receiveFails);
    }
    this.weights = `received ${orders[0]?.names.join('+')}`;
  }

  receiveStream(): Promise<void> {
    return this.receive([]);
  }

  async leave(): Promise<void> {
    this.calls.push('leave');
  }

  async checksums(): Promise<readonly ReadonlyMap<string, string>[]> {
    return Array.from({ length: this.size }, () => new Map([['model.norm.weight', 'ab'.repeat(32)]]));
  }

  async fingerprint(): Promise<string> {
    return this.weights;
  }
}
