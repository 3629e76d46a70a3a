/** prime-rl's broadcasts folder, and the handshake of trainer and orchestrator in it. */
export { type BroadcastStep, broadcastFolders, isAdapter, listSteps, stepPath } from './layout.js';
export type { MarkerGeneration } from './markers.js';
export {
  type Announcement,
  answerAnnouncement,
  awaitAnnouncement,
  awaitFinished,
  fileSystemNow,
  isAnnounced,
  nextAnnouncement,
  positionAfter,
  type WatchPosition,
  watchFrom,
} from './orchestrator.js';
export { primeRlSend, type SenderAnswer, type SenderOptions } from './sender.js';
