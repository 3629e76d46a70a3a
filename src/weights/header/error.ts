/** What is wrong with a header, and with which tensor. */
export class HeaderError extends Error {
  readonly tensor: string | null;
  readonly facts: Readonly<Record<string, unknown>>;
  constructor(message: string, tensor: string | null, facts: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.name = 'HeaderError';
    this.tensor = tensor;
    this.facts = facts;
  }
}
