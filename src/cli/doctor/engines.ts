/** What an engine says of itself, and what that means; nothing that is sent has effects. */
import type { Capabilities, Exchange } from '../../engines/admin.js';
import type { EngineTarget, HttpClient } from '../../engines/http.js';
import { connectEngine } from '../../engines/registry.js';
import { adminRoutesOpen } from '../../engines/vllm/connect.js';
import { findingOf, joiningRecord } from '../../update/claim/found.js';
import { engineKey } from '../../update/claim/identity.js';
import { describeRecord } from '../../update/claim/record.js';
import type { FoundRecord } from '../../update/claim/records.js';
import type { ErrorReport, TransportName } from '../../update/types.js';
import { count } from '../format.js';
import { errorReport } from '../outcome.js';
import { type Finding, finding } from './finding.js';
import { type ServerInfo, serverInfo } from './server-info.js';

export interface EngineCheck {
  readonly id: string;
  readonly backend: string;
  readonly version: string | null;
  readonly capabilities: Capabilities | null;
  readonly models: readonly string[];
  readonly workers: number | null;
  readonly paused: boolean | null;
  readonly weightVersion: string | null;
  /** Whether vLLM's admin routes answer without a key; null when that could not be learnt, and for other backends. */
  readonly adminRoutesOpen: boolean | null;
  readonly info: ServerInfo | null;
  readonly findings: readonly Finding[];
}

export interface EngineCheckOptions {
  /** Of the push. */
  readonly transport: TransportName;
  /** Milliseconds for each question. */
  readonly timeoutMs: number;
  /** What pushes have written of engines. */
  readonly records?: readonly FoundRecord[];
}

/** Asks one engine; never throws. */
export async function checkEngine(
  http: HttpClient,
  target: EngineTarget,
  { transport, timeoutMs, records = [] }: EngineCheckOptions,
): Promise<EngineCheck> {
  const id = target.id;
  const unknown = {
    id,
    backend: target.backend,
    version: null,
    capabilities: null,
    models: [],
    workers: null,
  };
  const nothing = { ...unknown, paused: null, weightVersion: null, adminRoutesOpen: null, info: null };
  let admin: Awaited<ReturnType<typeof connectEngine>>;
  try {
    admin = await connectEngine(http, target, { timeoutMs, transport });
  } catch (error) {
    return { ...nothing, findings: [failure(id, errorReport(error))] };
  }

  const isVllm = admin.backend === 'vllm';
  const name = isVllm ? 'vLLM' : admin.backend;
  const findings: Finding[] = [
    finding('ok', id, `${name} ${admin.version}: ${dialectText(admin.capabilities, isVllm)}`),
  ];
  for (const note of admin.notes) findings.push(finding('warning', id, note));
  const ask = async <T>(exchange: Exchange<T> | null): Promise<T | null> => {
    if (exchange === null) return null;
    try {
      return await http.exchange(target, exchange, { timeoutMs });
    } catch (error) {
      findings.push(failure(id, errorReport(error)));
      return null;
    }
  };
  const [, models, workers, paused, weightVersion, open, info] = await Promise.all([
    ask(admin.health()),
    ask(admin.listModels()),
    ask(admin.worldSize()),
    ask(admin.isPaused()),
    ask(admin.weightVersion()),
    isVllm ? adminRoutesOpen(http, target, { timeoutMs }).catch(() => null) : null,
    isVllm ? http.exchange(target, serverInfo(), { timeoutMs }).catch(() => null) : null,
  ]);
  const facts = {
    id,
    backend: admin.backend,
    version: admin.version,
    capabilities: admin.capabilities,
    models: models?.map((model) => model.id) ?? [],
    workers: workers ?? target.workers,
    paused,
    weightVersion,
    adminRoutesOpen: open,
    info,
  };
  return { ...facts, findings: [...findings, ...judgeEngine(facts, transport === 'nccl', records)] };
}

type Facts = Omit<EngineCheck, 'findings'>;

/** Pure: what the facts of an engine that answers mean. */
export function judgeEngine(facts: Facts, nccl: boolean, records: readonly FoundRecord[] = []): Finding[] {
  const findings: Finding[] = [];
  const say = (...args: [Finding['verdict'], string, string?]) =>
    findings.push(finding(args[0], facts.id, args[1], args[2] ?? null));
  const { backend, models, workers, paused, capabilities, info } = facts;
  if (models.length > 0) say('ok', `serves ${models.join(', ')}`);
  if (workers !== null) say('ok', count(workers, 'worker'));
  if (facts.weightVersion !== null) say('ok', `weight version ${facts.weightVersion}`);
  const joining = paused === null ? joiningRecord(records, facts.id) : null;
  if (joining !== null) {
    const died = `${describeRecord(joining.head)} ended while it joined an NCCL group`;
    say('wrong', `${died}: its workers wait for a rank that is gone`, 'Restart it.');
  }
  const live = records.find((record) => record.live && concerns(record, facts.id));
  if (live !== undefined) say('note', `is held by ${describeRecord(live.head)}`);
  else if (paused === true) say('wrong', ...whyPaused(facts, records));
  else if (capabilities?.isPausedLiesAfterKeep === true) {
    say('note', 'this version says that it is not paused also after a pause that kept its requests');
  }
  if (paused === null && live === undefined && backend !== 'vllm' && capabilities !== null) {
    say('note', 'does not say whether it is paused');
  }
  const transfer = nccl ? 'wrong' : 'note';
  if (capabilities?.wire === null) {
    say(transfer, 'has no weight transfer by NCCL', 'Use --transport filesystem.');
  } else if (!nccl && capabilities?.diskLoad === false) {
    say('wrong', 'loads no weights from a directory', 'Use --transport nccl.');
  } else if (info?.weightTransfer === false) {
    const remedy = `Start the server with --weight-transfer-config '{"backend":"nccl"}', or use --transport filesystem.`;
    say(transfer, 'was started without weight transfer', remedy);
  } else if (info?.weightTransfer === true) {
    say('ok', 'weight transfer is configured');
  } else if (nccl && backend === 'vllm') {
    say('note', 'does not say whether weight transfer is configured');
  }
  if (info?.torchVersion) say('note', `torch ${info.torchVersion}; its NCCL must be the version that pushes`);
  if (facts.adminRoutesOpen === true) {
    say(
      'warning',
      'admin routes answer without a key: anyone who reaches the port can pause it or load files into it',
      'Let only the trainer reach this port (firewall, network policy); --api-key does not guard these routes.',
    );
  }
  if (backend === 'dynamo') {
    say(
      'warning',
      'a Dynamo system port asks for no key: anyone who reaches it can pause the worker or load files into it',
      'Let only the trainer reach this port (firewall, network policy).',
    );
  }
  return findings;
}

function concerns({ engines }: FoundRecord, id: string): boolean {
  return engines.some(({ key }) => key === engineKey(id));
}

/** What is wrong with a paused engine that nobody updates, and what to do. */
function whyPaused({ id, backend }: Facts, records: readonly FoundRecord[]): [string, string] {
  const engine = backend === 'vllm' ? id : `${backend}=${id}`;
  const seen = { url: id, paused: true, processStart: null, mayHideAPause: false };
  const { kind, record } = findingOf(records, seen);
  if (record === null) {
    return [
      'is paused: an earlier push may have died in it',
      'Push again, or run weightcast recover --from DIR with a good checkpoint.',
    ];
  }
  const who = `${describeRecord(record.head)} ended and left it paused`;
  if (kind === 'untouched') return [`${who} and untouched`, `weightcast recover -e ${engine}`];
  if (kind === 'whole') return [`${who} with a whole new version`, `weightcast recover -e ${engine}`];
  return [`${who} between two versions`, `Push again, or run weightcast recover -e ${engine} --from DIR.`];
}

/** Where things go in a request is a matter of vLLM's versions. */
function dialectText(capabilities: Capabilities, isVllm: boolean): string {
  const { wire, diskLoad, rounds, packedIn, uniqueId } = capabilities;
  const ways = [wire === null ? [] : [`NCCL (${wire} frames)`], diskLoad ? ['files'] : []].flat();
  const parts: string[] = isVllm
    ? [
        `${rounds} updates`,
        `packing in ${packedIn}`,
        `unique id ${uniqueId === 'store' ? 'by store' : 'inline'}`,
      ]
    : [`receives by ${ways.join(' and ') || 'nothing'}`];
  if (capabilities.weightChecker) parts.push('weight checker');
  if (capabilities.weightVersion) parts.push('weight version');
  return parts.join(', ');
}

function failure(id: string, error: ErrorReport): Finding {
  return finding('wrong', id, error.message, error.remedy);
}
