/** Faults of one engine between a push and its server: each is scripted into a proxy, and what must become of the engine stands beside it. */
import type { UpdateReport } from '../../../src/update/types.js';
import type { ScriptedProxy, Step } from '../../update/proxy.js';

export interface FaultRow {
  readonly fault: string;
  /** Where it strikes. */
  readonly path: string;
  /** What happens to the request; `pushed` resolves when the push has ended. */
  readonly step: (pushed: Promise<void>) => Step;
  /** The first request of the path only; else each of them. */
  readonly once: boolean;
  readonly clearCache?: boolean;
  /** Milliseconds; for faults that are a missing answer. */
  readonly timeouts?: { readonly pause?: number; readonly update?: number; readonly rendezvous?: number };
  /** How the push ends. */
  readonly outcome: UpdateReport['outcome'];
  /** The server is paused when the push has ended. */
  readonly paused: boolean;
  /** What a server that is not paused serves; null where a row leaves it paused. */
  readonly serves: 'old' | 'new' | null;
}

const status = (code: number) => (): Step => ({
  kind: 'answer',
  status: code,
  body: { error: { message: 'injected', type: 'InternalServerError', param: null, code } },
});
const drop = (): Step => ({ kind: 'drop' });
const lose = (): Step => ({ kind: 'lose' });
const late = (until: Promise<void>): Step => ({ kind: 'late', until });

const untouched = { outcome: 'failed', paused: false, serves: 'old' } as const;
const held = { outcome: 'quarantined', paused: true, serves: null } as const;
const updated = { outcome: 'updated', paused: false, serves: 'new' } as const;

const INIT = '/init_weight_transfer_engine';
const START = '/start_weight_update';
const UPDATE = '/update_weights';
const FINISH = '/finish_weight_update';
const CHECKER = '/weight_checker';

export const FAULT_ROWS: readonly FaultRow[] = [
  { fault: 'init is lost', path: INIT, step: drop, once: true, ...untouched },
  { fault: 'init is done and its answer lost', path: INIT, step: lose, once: true, ...untouched },
  { fault: 'init is answered 503 on the way', path: INIT, step: status(503), once: true, ...untouched },
  { fault: 'pause is done and its answer lost', path: '/pause', step: lose, once: true, ...updated },
  {
    fault: 'pause is not answered, and applied when the push has failed',
    path: '/pause',
    step: late,
    once: false,
    timeouts: { pause: 500 },
    ...untouched,
    paused: true,
  },
  { fault: 'start is lost', path: START, step: drop, once: false, ...held },
  { fault: 'start is done and its answer lost', path: START, step: lose, once: false, ...untouched },
  { fault: 'start is answered 500 on the way', path: START, step: status(500), once: false, ...held },
  { fault: 'update is lost', path: UPDATE, step: drop, once: false, ...held },
  { fault: 'update is done and its answer lost', path: UPDATE, step: lose, once: false, ...held },
  { fault: 'update is answered 503 on the way', path: UPDATE, step: status(503), once: false, ...held },
  {
    fault: 'update is answered 200 on the way',
    path: UPDATE,
    step: () => ({ kind: 'answer', body: { message: 'Weights updated' } }),
    once: false,
    ...held,
  },
  { fault: 'finish is lost', path: FINISH, step: drop, once: false, ...held },
  { fault: 'finish is done and its answer lost', path: FINISH, step: lose, once: false, ...held },
  { fault: 'the checker answers 500', path: CHECKER, step: status(500), once: false, ...held },
  {
    fault: 'the checker tells of other bytes',
    path: CHECKER,
    step: () => ({ kind: 'rewrite', body: otherBytes }),
    once: false,
    ...held,
  },
  {
    fault: 'the cache is not reset',
    path: '/reset_prefix_cache',
    step: () => ({ kind: 'answer', body: { success: false } }),
    once: false,
    clearCache: false,
    ...held,
  },
  { fault: 'resume is done and its answer lost', path: '/resume', step: lose, once: true, ...updated },
  { fault: 'resume is lost', path: '/resume', step: drop, once: true, ...updated },
];

function otherBytes(body: unknown): unknown {
  const { checksums } = body as { checksums: Record<string, string> };
  return { checksums: Object.fromEntries(Object.keys(checksums).map((name) => [name, '0'.repeat(64)])) };
}

export function scriptRow(proxy: ScriptedProxy, row: FaultRow, pushed: Promise<void>): void {
  proxy.clear();
  proxy.on(row.path, row.step(pushed), row.once ? 1 : undefined);
}
