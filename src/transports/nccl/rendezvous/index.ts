export { localAddressTowards } from './addresses.js';
export { openRendezvous, type Rendezvous, type RendezvousOptions } from './rendezvous.js';
export type { ExpectedWorker } from './roll-call.js';
export { decodeUniqueId, encodeUniqueId, pickleUniqueId, unpickleUniqueId } from './unique-id.js';
