import {
  decodeUniqueId,
  encodeUniqueId,
  pickleUniqueId,
  unpickleUniqueId,
} from '../../../src/transports/nccl/rendezvous/unique-id.js';
import { expectTrue, type FuzzTarget, text, valueOrRefusal } from './target.js';

const ID = Uint8Array.from({ length: 128 }, (_, i) => i);

/** The pickle under the unique id's key, and the base64 that engines take instead. */
export const uniqueId: FuzzTarget = {
  name: 'unique-id',
  seeds: () => [pickleUniqueId(ID), text(encodeUniqueId(ID))],
  run: (input) => {
    const id = valueOrRefusal(() => unpickleUniqueId(input), 'WC_RENDEZVOUS_PROTOCOL');
    if (id !== null)
      expectTrue(id.length === 128 && Buffer.from(input).includes(Buffer.from(id)), 'another id');
    const base64 = Buffer.from(input).toString('latin1');
    const decoded = valueOrRefusal(() => decodeUniqueId(base64), 'WC_RENDEZVOUS_PROTOCOL');
    if (decoded !== null) expectTrue(encodeUniqueId(decoded) === base64, 'base64 that does not come back');
  },
};
