import { WeightcastError } from '../../../errors.js';
import type { Tensor } from '../../../weights/tensor.js';

const SHOWN = 5;

/** Why a wire format cannot carry a tensor; null when it can. */
export type Refusal = (tensor: Tensor) => string | null;

/** A way to send tensors. */
export interface Encoding {
  /** 'packed', 'per-tensor' … for messages. */
  readonly name: string;
  /** The option that selects it; null where the engines leave no choice. */
  readonly option: string | null;
  readonly refusal: Refusal;
}

/**
 * Throws before anyone is paused when a tensor does not fit the format, with the other encoding as the remedy where there is one that carries all.
 *
 * @throws WeightcastError WC_TENSOR_UNSENDABLE
 */
export function refuseUnsendable(tensors: readonly Tensor[], chosen: Encoding, other: Encoding | null): void {
  const carries = () => other !== null && tensors.every((tensor) => other.refusal(tensor) === null);
  refuse(tensors, {
    format: chosen.name,
    refusal: chosen.refusal,
    remedy: () =>
      carries()
        ? `Use ${other?.option}: that format carries all tensors of this checkpoint.`
        : 'Use --transport filesystem: no wire format of these engines carries all tensors of this checkpoint.',
  });
}

export interface Refusing {
  /** Name of the wire format. */
  readonly format: string;
  readonly refusal: Refusal;
  readonly remedy: string | (() => string);
}

/** @throws WeightcastError WC_TENSOR_UNSENDABLE, naming the first tensors that are refused */
export function refuse(tensors: readonly Tensor[], { format, refusal, remedy }: Refusing): void {
  const refused: { readonly tensor: string; readonly reason: string }[] = [];
  for (const tensor of tensors) {
    const reason = refusal(tensor);
    if (reason !== null) refused.push({ tensor: tensor.name, reason });
  }
  if (refused.length === 0) return;
  const shown = refused.slice(0, SHOWN).map(({ tensor, reason }) => `${tensor} (${reason})`);
  const more = refused.length > SHOWN ? ` and ${refused.length - SHOWN} more` : '';
  throw new WeightcastError(
    'WC_TENSOR_UNSENDABLE',
    `the ${format} wire format cannot carry ${shown.join(', ')}${more}`,
    { remedy: typeof remedy === 'string' ? remedy : remedy(), details: { refused } },
  );
}
